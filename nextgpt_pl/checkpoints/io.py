"""Checkpoint files that are whole or not there, whenever the process dies."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from nextgpt_pl.atomic import whole_file
from nextgpt_pl.checkpoints.finite import check_finite, tensors_of
from nextgpt_pl.errors import UserError

_VERSION = "pytorch-lightning_version"  # which every checkpoint of a trainer has


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the target and renames; reads tensors and plain data only, never a pickled object.

    Lightning's own writer goes through the system's temporary folder, from where a file may have to be copied.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write the file, have the disk confirm it, and only then give it its name."""
        with whole_file(Path(path)) as scratch, scratch.open("wb") as file:
            torch.save(checkpoint, file)
            file.flush()
            os.fsync(file.fileno())

    def load_checkpoint(
        self, path: Any, map_location: Callable[..., Any] | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """The checkpoint, on the CPU.

        Raises:
            UserError: it is missing, cut short, holds more than tensors and plain data, or weights that are not finite,
                or is of no trainer.

        """
        if not Path(path).is_file():
            raise UserError(f"ckpt_path={str(path)!r}: no such file")
        try:
            checkpoint = dict(torch.load(path, map_location="cpu", weights_only=True))
        except Exception as error:
            raise UserError(
                f"ckpt_path={str(path)!r} is no readable checkpoint ({str(error).splitlines()[0]})"
            ) from error
        check_finite(tensors_of(checkpoint), f"ckpt_path={str(path)!r}")
        if _VERSION not in checkpoint:
            raise UserError(f"ckpt_path={str(path)!r} is no checkpoint of a run: it has no {_VERSION}")
        return checkpoint


def newest(folder: Path) -> tuple[Path, int] | None:
    """The checkpoint in a run's ``checkpoints/`` behind the most steps, and how many; ``None`` without any.

    Raises:
        UserError: one of them cannot be read.

    """
    found = [path for path in folder.glob("*.ckpt") if path.is_file() and not path.is_symlink()]
    steps = {path: _step(path) for path in found}
    return max(steps.items(), key=lambda item: (item[1], item[0].stat().st_mtime_ns), default=None)


def _step(path: Path) -> int:
    try:
        return int(torch.load(path, map_location="cpu", mmap=True, weights_only=True)["global_step"])
    except Exception as error:
        raise UserError(
            f"{path} is no readable checkpoint ({str(error).splitlines()[0]}); move it away to go on from another"
        ) from error
