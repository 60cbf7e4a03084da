"""A damaged checkpoint does not hide the error that stopped the run."""

import errno

import pytest

from nextgpt_pl.training.checkpoint_io import last_checkpoint
from nextgpt_pl.training.full_disk import explaining_full_disk
from nextgpt_pl.utils.storage import DiskFullError


def test_a_damaged_checkpoint_is_named_beside_the_error_that_stopped_the_run(tmp_path):
    damaged = tmp_path / "checkpoints" / "step_000001.ckpt"
    damaged.parent.mkdir()
    damaged.write_bytes(b"cut")
    assert f"{damaged} is not a readable checkpoint" in last_checkpoint(tmp_path)
    with pytest.raises(DiskFullError, match="the disk is full") as caught, explaining_full_disk(lambda: str(tmp_path)):
        raise OSError(errno.ENOSPC, "No space left on device", "metrics.csv")
    assert str(caught.value).startswith("metrics.csv: ")
    assert str(damaged) in str(caught.value)
