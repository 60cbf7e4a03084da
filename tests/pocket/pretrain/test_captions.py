from dataclasses import asdict
from random import Random

import pytest
import torch

from nextgpt_pl.modality import Modality
from nextgpt_pl.pocket.pretrain.captions import embedding_quality, near_miss
from nextgpt_pl.pocket.world import ImageScene, draw_scene


def _flat(scene):
    if isinstance(scene, ImageScene):
        flat = {"background": scene.background}
        for index, thing in enumerate(scene.things):
            flat |= {f"{name}{index}": value for name, value in asdict(thing).items()}
        return flat
    return asdict(scene)


@pytest.mark.parametrize("modality", list(Modality))
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


def test_quality_of_embeddings_that_know_everything_and_nothing():
    generator = torch.Generator().manual_seed(0)
    random = {m: lambda captions: torch.randn(len(captions), 8, generator=generator) for m in Modality}
    noise = embedding_quality(random[Modality.AUDIO], [Modality.AUDIO], 64)
    assert noise["wording_share"] > 0.7
    assert noise["told_from_near_miss"] < 0.8


@pytest.mark.parametrize("modality", list(Modality))
def test_the_shipped_text_encoders_tell_captions_apart(modality):
    from nextgpt_pl.pocket.pretrain.quality import pocket_decoder

    found = embedding_quality(pocket_decoder(modality).embed_captions, [modality], 64)
    assert found["wording_share"] < 0.1
    assert found["told_from_near_miss"] > 0.9
