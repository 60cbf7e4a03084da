from dataclasses import asdict, replace
from random import Random

import pytest
import torch

from nextgpt_pl.modality import GENERATED, Modality
from nextgpt_pl.pocket.pretrain.captions import CaptionCoding, embedding_quality, near_miss, stated
from nextgpt_pl.pocket.world.scenes import ImageScene, Thing, draw_scene


def _flat(scene):
    if isinstance(scene, ImageScene):
        flat = {"background": scene.background}
        for index, thing in enumerate(scene.things):
            flat |= {f"{name}{index}": value for name, value in asdict(thing).items()}
        return flat
    return asdict(scene)


@pytest.mark.parametrize("modality", GENERATED)
def test_a_near_miss_differs_in_one_attribute_or_an_exchange(modality):
    rng = Random(0)
    seen = set()
    for _ in range(300):
        scene = draw_scene(modality, rng)
        one, other = _flat(scene), _flat(near_miss(scene, rng))
        assert one.keys() == other.keys()
        changed = [name for name in one if one[name] != other[name]]
        seen |= {name.rstrip("01") for name in changed}
        if len(changed) == 2:
            first, second = changed
            assert (one[first], one[second]) == (other[second], other[first])
        else:
            assert len(changed) == 1
    assert len(seen) >= {Modality.IMAGE: 5, Modality.VIDEO: 5, Modality.AUDIO: 3}[modality]


def test_what_is_stated_tells_scenes_apart_and_objects_have_places_of_their_own():
    rng = Random(1)
    for modality in GENERATED:
        for _ in range(50):
            scene = draw_scene(modality, rng)
            assert stated(scene) != stated(near_miss(scene, rng))
    thing = Thing("star", "red", "small", "left")
    alone, beside = ImageScene((thing,), "white"), ImageScene((thing, replace(thing, position="right")), "white")
    assert len(stated(alone)) == len(stated(beside)) == 2
    assert stated(alone)[0] == stated(beside)[0]
    assert stated(alone)[1] == ["no object", "background white"]
    coding = CaptionCoding(torch.nn.Identity(), None, lambda *_: None, (Modality.IMAGE,), steps=1, seed=0)
    one, two = (coding.target(scene, torch.Size((32, 16))) for scene in (alone, beside))
    assert torch.equal(one[:28], two[:28])
    assert not torch.allclose(one[28:], two[28:])


def test_quality_of_embeddings_that_know_everything_and_nothing():
    generator = torch.Generator().manual_seed(0)
    random = {m: lambda captions: torch.randn(len(captions), 8, generator=generator) for m in GENERATED}
    noise = embedding_quality(random[Modality.AUDIO], [Modality.AUDIO], 64)
    assert noise["wording_share"] > 0.7
    assert noise["told_from_near_miss"] < 0.8


@pytest.mark.parametrize("modality", GENERATED)
def test_the_shipped_text_encoders_tell_captions_apart(modality):
    from nextgpt_pl.pocket.parts import pocket_decoder

    found = embedding_quality(pocket_decoder(modality).embed_captions, [modality], 64)
    assert found["wording_share"] < 0.1
    assert found["told_from_near_miss"] > 0.9
