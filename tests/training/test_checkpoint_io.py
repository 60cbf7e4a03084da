import pytest
import torch

from nextgpt_pl.errors import UserError
from nextgpt_pl.training.checkpoint_io import AtomicCheckpointIO, newest

# the keys of every checkpoint of a run
WHOLE = {"pytorch-lightning_version": "2.6.0", "state_dict": {}, "manifest": "{}"}


@pytest.mark.parametrize(
    ("checkpoint", "named"),
    [
        ({"state_dict": {"a": torch.tensor([1.0, float("nan")])}, "global_step": 1}, r"state_dict\.a"),
        (
            {"optimizer_states": [{"state": {7: {"exp_avg": torch.tensor(float("-inf"))}}}], "global_step": 1},
            r"optimizer_states\.0\.state\.7\.exp_avg",
        ),
    ],
)
def test_a_checkpoint_that_is_not_finite_is_not_read(checkpoint, named, tmp_path):
    path = tmp_path / "a.ckpt"
    torch.save({**WHOLE, **checkpoint}, path)
    with pytest.raises(UserError, match=rf"a\.ckpt'.* not finite: {named}"):
        AtomicCheckpointIO().load_checkpoint(path)


def test_what_is_no_weight_may_be_infinite(tmp_path):
    """Such as the score of the best checkpoint before there is one."""
    path = tmp_path / "a.ckpt"
    AtomicCheckpointIO().save_checkpoint({**WHOLE, "callbacks": {"best": torch.tensor(float("inf"))}}, path)
    assert AtomicCheckpointIO().load_checkpoint(path)["callbacks"]["best"] == float("inf")


def test_a_run_with_a_damaged_checkpoint_says_which(tmp_path):
    for step in (1, 2):
        AtomicCheckpointIO().save_checkpoint({"global_step": step}, tmp_path / f"step_{step}.ckpt")
    damaged = tmp_path / "step_2.ckpt"
    damaged.write_bytes(damaged.read_bytes()[:99])
    with pytest.raises(UserError, match=r"step_2\.ckpt is not a readable checkpoint .*; move it away"):
        newest(tmp_path)
    damaged.unlink()
    assert newest(tmp_path) == (tmp_path / "step_1.ckpt", 1)
