import hashlib
from collections import Counter

import numpy as np
import pytest

from nextgpt_pl.dialogue.conversation import Conversation
from nextgpt_pl.modality import GENERATED, Modality
from nextgpt_pl.pocket.world import grammar, items, render
from nextgpt_pl.pocket.world import scenes as world

# made once; a change here means that a seed and an index no longer give the same item
CAPTIONS = {
    Modality.IMAGE: "a black background with a little green star to the left",
    Modality.VIDEO: "a small orange star on black, spinning",
    Modality.AUDIO: None,
}


@pytest.mark.parametrize("modality", GENERATED)
def test_an_index_always_gives_the_same_item(modality):
    first, again = (items.captioned_pair("heldout", modality, 1) for _ in range(2))
    assert first == again
    assert np.array_equal(first.media.source(), again.media.source())
    if CAPTIONS[modality]:
        assert first.caption == CAPTIONS[modality]


def test_pixels_are_the_same_on_every_machine():
    pixels = items.captioned_pair("train", Modality.IMAGE, 0).media.source()
    assert hashlib.sha256(pixels.tobytes()).hexdigest()[:16] == "fb95a4d342064ac0"


@pytest.mark.parametrize("shape", world.SHAPES)
def test_masks_are_those_of_a_shape_sampled_everywhere(shape):
    """Only the pixels that a shape may reach are sampled."""
    rng = np.random.default_rng(0)
    grid = (np.arange(world.IMAGE_SIZE * 3) + 0.5) / 3
    for number in range(200):
        (cx, cy), extent = rng.uniform(-30, 94, 2), rng.uniform(2, 28)
        angle = float(rng.uniform(0, 360)) if number % 2 else 0.0
        x, y = (grid[None, :] - cx) / extent, (grid[:, None] - cy) / extent
        if angle:
            c, s = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
            x, y = c * x + s * y, -s * x + c * y
        everywhere = render._INSIDE[shape](x, y).reshape(world.IMAGE_SIZE, 3, world.IMAGE_SIZE, 3).mean(axis=(1, 3))
        found = render.shape_mask(shape, cx, cy, extent, angle)
        assert found.dtype == everywhere.dtype
        assert np.array_equal(found, everywhere)


@pytest.mark.parametrize("modality", GENERATED)
def test_splits_share_no_combination_and_each_has_every_value(modality):
    scenes = {s: [world.item_scene(s, modality, i) for i in range(1500)] for s in ("train", "heldout")}
    assert not {repr(s) for s in scenes["train"]} & {repr(s) for s in scenes["heldout"]}
    for split in scenes.values():
        flat = Counter(str(v) for s in split for v in _values(s))
        wanted = {
            Modality.IMAGE: (*world.SHAPES, *world.COLOURS, *world.SIZES, *world.POSITIONS, *world.BACKGROUNDS),
            Modality.VIDEO: (*world.SHAPES, *world.COLOURS, *world.SIZES, *world.MOTIONS, *world.BACKGROUNDS),
            Modality.AUDIO: (*world.TIMBRES, *world.PITCHES, *world.PATTERNS),
        }[modality]
        assert set(wanted) <= set(flat)


def _values(scene):
    if isinstance(scene, world.ImageScene):
        return [scene.background, *(v for t in scene.things for v in (t.shape, t.colour, t.size, t.position))]
    return list(vars(scene).values())


def test_captions_name_every_colour_and_background():
    for index in range(300):
        scene = world.item_scene("train", Modality.IMAGE, index)
        caption = items.captioned_pair("train", Modality.IMAGE, index).caption
        for word in (scene.background, *(v for t in scene.things for v in (t.colour, t.shape, t.size))):
            assert any(w in caption for w in (word, *grammar.SYNONYMS.get(word, ()))), (word, caption)


def test_unknown_split_is_named():
    with pytest.raises(ValueError, match="split='val'"):
        world.item_scene("val", Modality.IMAGE, 0)


@pytest.mark.parametrize("modality", GENERATED)
def test_a_question_about_an_item_does_not_tell_its_caption(modality, pocket_tokenizer):
    """Read for comprehension, the prompt must not hold what is to be learned."""
    conversation = Conversation(pocket_tokenizer, {}, dict.fromkeys(Modality, 1), direction="comprehension")
    for index in range(20):
        pair = items.captioned_pair("train", modality, index)
        row = conversation(pair)
        prompt = pocket_tokenizer.decode([i for i, label in zip(row.input_ids, row.labels, strict=True) if label < 0])
        assert pair.question in prompt
        assert pair.caption not in prompt
        assert pair.description not in prompt
        assert pair.description in pocket_tokenizer.decode(row.input_ids)
