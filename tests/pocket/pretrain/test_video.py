from nextgpt_pl.pocket.pretrain.video import SMALLER_SHARE, VideoDiffusion
from nextgpt_pl.pocket.world.scenes import is_heldout


def test_training_shows_small_things_often_and_nothing_that_is_held_out():
    task = VideoDiffusion.__new__(VideoDiffusion)
    object.__setattr__(task, "seed", 0)
    scenes = [task.training_scene(i) for i in range(400)]
    sized = [scene.size for scene in scenes if scene.size is not None]
    # of two sizes, half are small before any is drawn again
    assert abs(sized.count("small") / len(sized) - (1 + SMALLER_SHARE) / 2) < 0.08
    assert None in [scene.size for scene in scenes]
    assert not any(is_heldout(scene) for scene in scenes)
    assert scenes[:5] == [task.training_scene(i) for i in range(5)]
