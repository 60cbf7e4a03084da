"""A full disk, as the libraries meet it: no file may grow beyond a limit."""

import contextlib
import errno
import os
import sys
import time

import pytest
import torch
from safetensors.torch import save_file

from nextgpt_pl.__main__ import main
from nextgpt_pl.errors import UserError
from nextgpt_pl.training.checkpoint_io import AtomicCheckpointIO
from nextgpt_pl.training.full_disk import explaining_full_disk
from nextgpt_pl.utils.atomic import atomic_file, delete_abandoned, scratch_name, write_atomic
from nextgpt_pl.utils.storage import DiskFullError, full_path, is_disk_full

LARGE = torch.zeros(500_000)


@pytest.fixture
def limited():
    """A context in which no file grows beyond 200 kB."""
    resource = pytest.importorskip("resource")

    @contextlib.contextmanager
    def limit():
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    return limit


def _torch(path):
    with atomic_file(path) as scratch:
        torch.save(LARGE, scratch)


def _safetensors(path):
    with atomic_file(path) as scratch:
        save_file({"a": LARGE}, scratch)


@pytest.mark.parametrize(
    "write",
    [
        _torch,
        _safetensors,
        lambda path: AtomicCheckpointIO().save_checkpoint({"a": LARGE}, path),
        lambda path: write_atomic(path, "x" * 500_000),
    ],
    ids=["torch", "safetensors", "checkpoint", "text"],
)
def test_a_file_without_room_is_named_and_leaves_the_one_before(write, limited, tmp_path):
    path = tmp_path / "file"
    path.write_text("before")
    with limited(), pytest.raises(DiskFullError) as caught:
        write(path)
    assert str(caught.value).startswith(f"{path}: the disk is full")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    assert path.read_text() == "before"
    write(path)


def test_other_errors_stay_what_they_are(tmp_path):
    for error in (OSError(errno.EACCES, "denied"), RuntimeError("shapes"), ValueError("No space left on device")):
        assert not is_disk_full(error)
        with pytest.raises(type(error)), atomic_file(tmp_path / "file"):
            raise error


def test_an_error_behind_another_is_found():
    error = RuntimeError("the logger failed")
    error.__cause__ = OSError(errno.ENOSPC, "No space left on device", "metrics.csv")
    assert is_disk_full(error)
    assert str(full_path(error)) == "metrics.csv"


def test_a_run_says_from_which_checkpoint_it_goes_on(tmp_path):
    AtomicCheckpointIO().save_checkpoint({"global_step": 4}, tmp_path / "checkpoints" / "step_000004.ckpt")
    with pytest.raises(UserError) as caught, explaining_full_disk(lambda: str(tmp_path)):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert str(caught.value).startswith(f"{tmp_path}: the disk is full")
    assert str(caught.value).endswith("step_000004.ckpt (step 4)")


def test_every_verb_says_it_in_one_sentence(monkeypatch, capsys):
    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "predictions.jsonl")

    monkeypatch.setitem(sys.modules, "full_verb", type("Module", (), {"run": staticmethod(full)}))
    monkeypatch.setitem(main.__globals__["VERBS"], "test", ("full_verb:run", ""))
    assert main(["test"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: predictions.jsonl: the disk is full")
    assert error.count("\n") == 1


def test_scratch_names_differ_in_one_process_as_on_two_machines(tmp_path):
    assert len({scratch_name(tmp_path / "a") for _ in range(100)}) == 100
    with atomic_file(tmp_path / "a") as one, atomic_file(tmp_path / "a") as two:
        one.write_text("one")
        two.write_text("two")
    assert (tmp_path / "a").read_text() == "one"


def test_half_written_files_are_cleared_once_they_are_a_day_old(tmp_path):
    old, new = scratch_name(tmp_path / "checkpoints" / "a.ckpt"), scratch_name(tmp_path / "b")
    for path, hours in ((old, 25), (new, 23)):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"half")
        os.utime(path, (time.time() - 3600 * hours,) * 2)
    assert delete_abandoned(tmp_path) == 1
    assert (old.exists(), new.exists()) == (False, True)
