"""Full disks during training: one error message with the path and the command that resumes the run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from nextgpt_pl.errors import UserError
from nextgpt_pl.training.checkpoint_io import newest
from nextgpt_pl.utils.storage import DiskFullError, full_path, is_disk_full


@contextmanager
def explaining_full_disk(run_folder: Callable[[], str | None]) -> Iterator[None]:
    """Convert the errors that libraries raise on a full disk to :class:`DiskFullError`.

    Args:
        run_folder: returns the run's folder, or ``None`` if it does not exist yet.

    Raises:
        DiskFullError: the disk is full; the message names the file, the newest checkpoint and how to resume.

    """
    try:
        yield
    except Exception as error:
        if not is_disk_full(error):
            raise
        folder = run_folder()
        more = ". Free some space and run the same command again"
        try:
            checkpoint = None if folder is None else newest(Path(folder) / "checkpoints")
        except UserError as unreadable:
            checkpoint, more = None, f"{more}. {unreadable}"
        if checkpoint is not None:
            more += f", with --ckpt_path {checkpoint[0]} (step {checkpoint[1]})"
        raise DiskFullError(full_path(error) or Path(folder or "."), more) from error
