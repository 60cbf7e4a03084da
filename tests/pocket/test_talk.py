from collections import Counter
from random import Random

import pytest

from nextgpt_pl.modality import GENERATED, Modality
from nextgpt_pl.pocket.judges.text import judge_text
from nextgpt_pl.pocket.world import chat, talk
from nextgpt_pl.pocket.world.scenes import COLOURS, SHAPES, draw_scene, is_heldout


@pytest.mark.parametrize("kind", [kind for kind, _ in chat.KINDS])
def test_users_and_the_assistant_take_turns(kind):
    for seed in range(20):
        turns = kind(Random(seed), "train")
        assert [role for role, _ in turns] == ["user", "assistant"] * (len(turns) // 2)
        assert all(text.strip() for _, text in turns)


@pytest.mark.parametrize("modality", GENERATED)
def test_keywords_name_every_attribute_in_varying_order(modality):
    rng = Random(0)
    scene = draw_scene(modality, rng)
    said = {talk.keywords(scene, rng) for _ in range(30)}
    words = Counter(frozenset(text.lower().strip(".").replace(",", "").split()) for text in said)
    assert len(words) == 1
    assert len(said) > 3


@pytest.mark.parametrize("split", ["train", "heldout"])
def test_an_animated_picture_keeps_its_object(split):
    for seed in range(30):
        scene, _, moving = talk.animated(Random(seed), split)
        (thing,) = scene.things
        assert (thing.shape, thing.colour, scene.background) == (moving.shape, moving.colour, moving.background)
        assert moving.size in (thing.size, None)
        assert is_heldout(moving) == (split == "heldout")


def test_every_sound_has_a_picture_of_its_own():
    seen = {}
    for seed in range(400):
        sound, _, picture = talk.pictured(Random(seed), "heldout")
        assert seen.setdefault(sound, picture) == picture
        assert picture.things[0].shape in SHAPES
        assert picture.things[0].colour in COLOURS
    assert len(set(seen.values())) == len(seen)


@pytest.mark.parametrize(("kind", "modality"), [(chat.animate, Modality.VIDEO), (chat.picture, Modality.IMAGE)])
def test_answers_name_all_attributes(kind, modality):
    for seed in range(30):
        (_, _), (_, answer) = kind(Random(seed), "train")
        assert judge_text(answer, modality) is not None, answer
