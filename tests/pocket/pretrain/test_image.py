from random import Random

import pytest

from nextgpt_pl.modality import Modality
from nextgpt_pl.pocket.pretrain.image import ImageDiffusion, _scene
from nextgpt_pl.pocket.pretrain.pictures import TWO_OBJECTS
from nextgpt_pl.pocket.world.scenes import is_heldout


def test_training_shows_two_objects_often_and_nothing_that_is_held_out():
    task = ImageDiffusion.__new__(ImageDiffusion)
    object.__setattr__(task, "seed", 0)
    scenes = [task.training_scene(i) for i in range(400)]
    share = sum(len(scene.things) == 2 for scene in scenes) / len(scenes)
    assert abs(share - TWO_OBJECTS) < 0.07
    assert not any(is_heldout(scene) for scene in scenes)
    assert scenes[:5] == [task.training_scene(i) for i in range(5)]


@pytest.mark.parametrize("modality", [Modality.IMAGE, Modality.VIDEO])
def test_the_decoder_can_be_shown_small_things_alone(modality):
    for seed in range(50):
        scene = _scene(modality, Random(seed), small=1.0)
        things = scene.things if modality is Modality.IMAGE else (scene,)
        assert "small" in [thing.size for thing in things]
        assert not is_heldout(scene)
