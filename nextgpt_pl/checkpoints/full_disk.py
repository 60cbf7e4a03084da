"""A run whose disk is full ends with a sentence: where, what is whole, and how it goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from nextgpt_pl.checkpoints.io import newest
from nextgpt_pl.storage import DiskFullError, full_path, is_disk_full


@contextmanager
def explaining_full_disk(run_folder: Callable[[], str | None]) -> Iterator[None]:
    """Turn whatever a library raises on a full disk into one error.

    Args:
        run_folder: gives the run's folder; ``None`` while there is none.

    Raises:
        DiskFullError: there is no room; names the file, the newest checkpoint, and the command that goes on.

    """
    try:
        yield
    except Exception as error:
        if not is_disk_full(error):
            raise
        folder = run_folder()
        found = None if folder is None else newest(Path(folder) / "checkpoints")
        more = ". Make room and give the same command again"
        if found is not None:
            more += f", with --ckpt_path {found[0]} (step {found[1]})"
        raise DiskFullError(full_path(error) or Path(folder or "."), more) from error
