import numpy as np
import pytest

from nextgpt_pl.modality import GENERATED, Modality
from nextgpt_pl.pocket.judges import media as judge
from nextgpt_pl.pocket.world import items
from nextgpt_pl.pocket.world import scenes as world

COUNT = 200


def _blurred(array, sigma=0.8):
    kernel = np.exp(-0.5 * (np.arange(-3, 4) / sigma) ** 2)
    kernel /= kernel.sum()
    result = array.astype(float)
    for axis in (-3, -2):
        result = sum(w * np.roll(result, s, axis) for w, s in zip(kernel, range(-3, 4), strict=True))
    return result


def _degraded(array, modality, rng):
    if modality is Modality.AUDIO:
        return array + rng.normal(0, 1, len(array)) * np.sqrt(np.square(array).mean()) * 10 ** (-35 / 20)
    return np.clip(_blurred(array) + rng.normal(0, 8, array.shape), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("degraded", [False, True], ids=["clean", "noise and blur"])
@pytest.mark.parametrize("modality", GENERATED)
def test_judges_read_renders(modality, degraded):
    rng = np.random.default_rng(0)
    right = 0
    for index in range(COUNT):
        media = items.captioned_pair(("train", "heldout")[index % 2], modality, index).media.source
        array = media()
        found = judge.judge(_degraded(array, modality, rng) if degraded else array, modality)
        right += found == media.scene
    assert right >= 0.99 * COUNT


def test_judges_do_not_see_things_in_noise_or_blank():
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 255, (8, 64, 64, 3)).astype(np.uint8)
    assert judge.judge(noise[0], Modality.IMAGE) is None
    assert judge.judge(noise, Modality.VIDEO) is None
    assert judge.judge(np.full((64, 64, 3), 128, np.uint8), Modality.IMAGE) is None
    assert judge.judge(np.zeros((8, 64, 64, 3), np.uint8), Modality.VIDEO) is None
    assert judge.judge(np.zeros(32000, np.float32), Modality.AUDIO) is None
    assert judge.judge(rng.normal(0, 0.1, 32000), Modality.AUDIO) is None


def test_a_wrong_attribute_is_found():
    scene = world.item_scene("train", Modality.AUDIO, 0)
    wrong = world.AudioScene(scene.timbre, next(p for p in world.PITCHES if p != scene.pitch), scene.pattern)
    assert judge.matches(wrong, scene) == {"timbre": True, "pitch": False, "pattern": True}
