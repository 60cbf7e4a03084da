import os

import pytest
import torch

from nextgpt_pl.errors import UserError
from nextgpt_pl.training.checkpoint_io import AtomicCheckpointIO, newest
from nextgpt_pl.training.keep import outdated

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


@pytest.mark.parametrize("content", [b"", b"PK", None], ids=["empty", "two bytes", "cut"])
def test_damaged_checkpoints_are_skipped(content, tmp_path, recwarn):
    for step in (1, 2):
        AtomicCheckpointIO().save_checkpoint({"global_step": step}, tmp_path / f"step_{step}.ckpt")
    damaged = tmp_path / "step_2.ckpt"
    damaged.write_bytes(damaged.read_bytes()[:99] if content is None else content)
    assert newest(tmp_path) == (tmp_path / "step_1.ckpt", 1)
    assert any("step_2.ckpt is not a readable checkpoint" in str(w.message) for w in recwarn)
    (tmp_path / "step_1.ckpt").unlink()
    with pytest.raises(UserError, match=r"step_2\.ckpt is not a readable checkpoint .* move it away"):
        newest(tmp_path)


def test_flipped_bits_of_a_weight_are_noticed(tmp_path):
    """They give another finite number, and ``torch.load`` compares no checksums."""
    paths = [tmp_path / f"step_{step}.ckpt" for step in (1, 2)]
    for step, path in enumerate(paths, 1):
        AtomicCheckpointIO().save_checkpoint({**WHOLE, "global_step": step, "state_dict": {"a": torch.ones(99)}}, path)
    data = bytearray(paths[1].read_bytes())
    data[data.index(torch.ones(99).numpy().tobytes()) + 2] ^= 1
    paths[1].write_bytes(data)
    with pytest.raises(UserError, match=r"step_2\.ckpt' is not a readable checkpoint \(the checksum of \S+ in it"):
        AtomicCheckpointIO().load_checkpoint(paths[1])
    with pytest.warns(UserWarning, match=r"skipped: .*step_2\.ckpt is not a readable checkpoint"):
        assert newest(tmp_path) == (paths[0], 1)


@pytest.mark.parametrize(
    ("there", "step", "deleted"),
    [
        ((1, 2, 3), 3, {1}),
        # resumed from step 1: the later ones are repeated
        ((1, 2, 5, 6), 2, {5, 6}),
        ((2, 5, 6), 2, {5}),
    ],
)
def test_the_last_checkpoints_are_kept_whatever_their_times(there, step, deleted, tmp_path):
    for number in there:
        path = tmp_path / f"step_{number:06d}.ckpt"
        path.touch()
        # dates from the future do not make a file newer
        os.utime(path, (2e9 - number, 2e9 - number))
    (tmp_path / "step_of_mine.ckpt").touch()
    (tmp_path / "interrupted.ckpt").touch()
    names = {f"step_{number:06d}.ckpt" for number in deleted} | {"interrupted.ckpt"}
    assert {path.name for path in outdated(tmp_path, step, keep=2)} == names
