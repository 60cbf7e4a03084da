from random import Random

import pytest
import torch

from nextgpt_pl.modality import Modality
from nextgpt_pl.pocket.parts import JointEncoder
from nextgpt_pl.pocket.pretrain.captions import pooled_statements
from nextgpt_pl.pocket.pretrain.sensed import Binding, all_sensed_statements, scale_stem, trained_tower, waves
from nextgpt_pl.pocket.world.scenes import ImageScene, VideoScene
from nextgpt_pl.pocket.world.sensed import HEAT_OF_COLOUR, SENSED, draw_sensed, is_heldout
from nextgpt_pl.pocket.world.sensed_words import seen
from nextgpt_pl.utils.paths import pocket_weights


@pytest.fixture(scope="module")
def text():
    return JointEncoder.of_package()


@pytest.mark.parametrize("modality", SENSED)
def test_the_tower_learns_and_the_text_tower_does_not(text, modality):
    torch.manual_seed(0)
    task = Binding(modality, text, steps=2, seed=0)
    task.batch_size = 4
    before = {name: value.clone() for name, value in text.named_parameters()}
    loss = task.loss(Random(0), torch.Generator())
    loss.backward()
    assert torch.isfinite(loss)
    assert all(parameter.grad is not None for parameter in task.parameters())
    assert all(p.grad is None and torch.equal(p, before[name]) for name, p in text.named_parameters())
    assert set(task.model.config.towers) == {modality.value}
    assert not any("text" in name for name in task.state_dict())


def test_the_thermal_tower_starts_from_that_of_depth(text):
    torch.manual_seed(0)
    depth, thermal = (Binding(m, text, steps=1, seed=0) for m in (Modality.DEPTH, Modality.THERMAL))
    thermal.start_from(depth)
    inputs = torch.rand(2, 1, 224, 224)
    torch.testing.assert_close(thermal.model("thermal", inputs), depth.model("depth", inputs))


@pytest.mark.parametrize("modality", SENSED)
def test_training_with_a_larger_epsilon_moves_into_the_weights(text, modality):
    torch.manual_seed(0)
    model = Binding(modality, text, steps=1, seed=0).model.eval()
    inputs = torch.rand(2, 6, 2000) if modality is Modality.IMU else torch.rand(2, 1, 224, 224)
    before = model(modality.value, inputs)
    scale_stem(model, 100.0)
    torch.testing.assert_close(model(modality.value, inputs), before)
    scale_stem(model, 0.01)
    torch.testing.assert_close(model(modality.value, inputs), before)


@pytest.mark.parametrize("modality", [Modality.DEPTH, Modality.THERMAL])
def test_the_stem_keeps_the_level_of_uniform_patches(text, modality):
    """Normalised patches of plain weights would differ by less than a hundredth."""
    stem = Binding(modality, text, steps=1, seed=0).model.modality_preprocessors[modality.value]
    low, high = (stem(torch.full((1, 1, 224, 224), level))[0][0, 1] for level in (0.35, 1.0))
    assert (high - low).norm() > 0.3 * high.norm() > 0


def test_near_positions_of_a_sequence_are_alike():
    positions = waves(250, 64)
    assert positions.shape == (250, 64)
    distances = torch.cdist(positions, positions)
    assert distances[0, 1] < distances[0, 10] < distances[0, 100]
    assert distances[100, 101] < distances[100, 140]


@pytest.mark.parametrize("modality", SENSED)
def test_what_a_reading_may_be_of_has_all_that_the_sensor_sees(modality):
    names = all_sensed_statements(modality)
    for index in range(50):
        scene = draw_sensed(modality, Random(index))
        assert not is_heldout(scene)
        assert set(pooled_statements(scene)) <= set(names)
        possible = [seen(scene, Random(i)) for i in range(20)]
        assert len(set(possible)) > 1
        for other in possible:
            if isinstance(other, VideoScene):
                assert other.motion == scene.motion
                continue
            assert isinstance(other, ImageScene)
            for thing, shown in zip(scene.things, other.things, strict=True):
                assert (thing.shape, thing.size, thing.position) == (shown.shape, shown.size, shown.position)
                assert getattr(thing, "heat", None) in (None, HEAT_OF_COLOUR[shown.colour])


@pytest.mark.slow
@pytest.mark.parametrize(("modality", "share"), [("depth", 0.95), ("thermal", 0.95), ("imu", 0.85)])
def test_the_towers_of_the_package_read_held_out_readings(modality, share):
    quality = trained_tower(pocket_weights() / modality, pocket_weights() / "encoder").quality()
    assert quality["read"] >= share
    assert quality["recall_to_text"] >= 0.8
