"""What the benchmark of training steps compares is the same computation."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))
import step_variants as steps

from nextgpt_pl.encoders.imagebind import TowerConfig

SIZES = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "vocab_size": 8_000}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(steps.LLMS, "small", SIZES | {"num_attention_heads": 4, "num_key_value_heads": 2})
        patch.setattr(steps, "TOWERS", {"vision": TowerConfig(16, 1, 2), "audio": TowerConfig(16, 1, 2, scale=20.0)})
        steps.save_models(folder, "small")
    return folder


@pytest.mark.parametrize("stage", steps.STAGES)
def test_the_reference_has_the_losses_of_ours_step_by_step(models, stage):
    ours, reference = (kind(stage, models, per_modality=1) for kind in (steps.Ours, steps.Reference))
    first = [turn() for turn in (ours, reference)]
    assert first[0] == pytest.approx(first[1], rel=1e-4)
    if stage != "dec_align":  # there the reference trains more
        assert ours() == pytest.approx(reference(), rel=1e-4)


def test_the_limits_are_parts_of_the_same_loss(models):
    ours, bare, alone = (
        kind("dec_align", models, per_modality=2) for kind in (steps.Ours, steps.Bare, steps.ProjectionsAlone)
    )
    assert ours() == pytest.approx(bare() + alone(), rel=1e-4)
