"""The three stages on the tiny models, on a GPU that is pretended."""

import pytest
import tiny
from pretend_gpu import PretendGPU, StepCounts


def _fit(name, tiny_models, folder, precision, **options):
    """The counts of each step of a short training with validation."""
    with PretendGPU() as gpu:
        stage, data = tiny.stage_and_data(name, tiny_models, batch_size=4, **options)
        counts = StepCounts(gpu)
        often = {"val_check_interval": 2, "check_val_every_n_epoch": None, "limit_val_batches": 1}
        gpu.trainer(folder, max_steps=4, precision=precision, callbacks=[counts], **often).fit(stage, data)
    return counts.steps


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("name", tiny.STAGES)
def test_a_stage_trains_and_validates(name, precision, tiny_models, tmp_path):
    assert len(_fit(name, tiny_models, tmp_path, precision)) == 4
