"""Atomic checkpoint files: a killed process leaves no partial file."""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from nextgpt_pl.config.flat import flatten
from nextgpt_pl.errors import UserError
from nextgpt_pl.utils.atomic import atomic_file
from nextgpt_pl.utils.finite import check_finite

_HYPERPARAMETERS = ("hyper_parameters", "datamodule_hyper_parameters")
_CLASS_KEYS = ("class_path", "_class_path", "_instantiator")
_VERSION = "pytorch-lightning_version"  # a key of every Lightning checkpoint


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a temporary file in the same folder and renames it; reads tensors and plain data only.

    Lightning's writer uses the system's temporary folder, which may be on another file system.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write the file, sync it to disk, then rename it."""
        with atomic_file(Path(path)) as scratch, scratch.open("wb") as file:
            torch.save(checkpoint, file)
            file.flush()
            os.fsync(file.fileno())

    def load_checkpoint(
        self, path: Any, map_location: Callable[..., Any] | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """The checkpoint, on the CPU.

        Raises:
            UserError: the file is missing, truncated or damaged, holds objects other than tensors and plain data, holds
                weights that are not finite, names classes to be made, or is not a Lightning checkpoint.

        """
        checkpoint = read_checkpoint(path)
        check_finite(tensors_of(checkpoint), f"ckpt_path={str(path)!r}")
        if _VERSION not in checkpoint:
            raise UserError(f"ckpt_path={str(path)!r} is not a checkpoint of a run: it has no key {_VERSION!r}")
        return checkpoint


def read_checkpoint(path: Any, *, mmap: bool = False) -> dict[str, Any]:
    """The content of a checkpoint's file, on the CPU.

    Args:
        path: the file.
        mmap: map the tensors instead of reading them; their checksums are not checked.

    Raises:
        UserError: the file is missing, truncated or damaged, holds objects other than tensors and plain data, or names
            classes to be made.

    """
    where = f"ckpt_path={str(path)!r}"
    if not Path(path).is_file():
        raise UserError(f"{where}: no such file")
    try:
        checkpoint = dict(torch.load(path, map_location="cpu", mmap=mmap, weights_only=True))
        if not mmap:
            _check_sums(path)
    except Exception as error:
        raise UserError(f"{where} is not a readable checkpoint ({_reason(error)})") from error
    _refuse_classes(checkpoint, where)
    return checkpoint


def _refuse_classes(checkpoint: Mapping[Any, Any], where: str) -> None:
    """Refuse hyperparameters that name classes; checkpoints of this package have none, LightningCLI would make them."""
    for section in _HYPERPARAMETERS:
        for key, value in flatten({section: checkpoint.get(section)}).items():
            if key.rpartition(".")[2] in _CLASS_KEYS:
                reason = "a checkpoint is data, classes are named in the YAML"
                raise UserError(f"{where}: {key}={value!r:.80} is refused: {reason}")


def newest(folder: Path) -> tuple[Path, int] | None:
    """The whole checkpoint with the most steps in a run's ``checkpoints/``, and its steps; ``None`` if there is none.

    Damaged checkpoints are skipped with a warning. Only those that are tried are read whole.

    Raises:
        UserError: there are checkpoints, but none can be read.

    """
    steps: dict[Path, int] = {}
    damaged: list[str] = []
    for path in sorted(path for path in folder.glob("*.ckpt") if path.is_file() and not path.is_symlink()):
        try:
            steps[path] = step_of(path)
        except UserError as error:
            damaged.append(str(error))
    found: tuple[Path, int] | None = None
    for path in sorted(steps, key=lambda path: (steps[path], path.stat().st_mtime_ns), reverse=True):
        try:
            _check_sums(path)
            found = path, steps[path]
            break
        except Exception as error:
            damaged.append(str(_unreadable(path, error)))
    if damaged and found is None:
        raise UserError(f"{damaged[0]}; no other checkpoint is there: move it away to start from the first step")
    for message in damaged:
        rank_zero_warn(f"skipped: {message}")
    return found


def step_of(path: Path) -> int:
    """The number of steps of a checkpoint, without reading its tensors.

    Raises:
        UserError: the file cannot be read.

    """
    try:
        return int(torch.load(path, map_location="cpu", mmap=True, weights_only=True)["global_step"])
    except Exception as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> UserError:
    return UserError(f"{path} is not a readable checkpoint ({_reason(error)})")


def _check_sums(path: str | Path) -> None:
    """Compare the checksums that ``torch.save`` writes with the file's content, which ``torch.load`` does not.

    Raises:
        ValueError, zipfile.BadZipFile: they differ, or the file is no archive.

    """
    with zipfile.ZipFile(path) as archive:
        damaged = archive.testzip()
    if damaged is not None:
        raise ValueError(f"the checksum of {damaged} in it is another one")


def _reason(error: Exception) -> str:
    """The first line of a message; of a pickle that torch refuses, the name of what it would call."""
    if match := re.search(r"GLOBAL ([\w.]+)", str(error)):
        return f"it is a pickle that names {match[1]}"
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def tensors_of(checkpoint: Mapping[str, Any]) -> dict[str, Tensor]:
    """Weights and optimizer states of a checkpoint, by name."""
    return dict(_tensors("", {k: checkpoint[k] for k in ("state_dict", "optimizer_states") if k in checkpoint}))


def _tensors(prefix: str, value: Any) -> Iterator[tuple[str, Tensor]]:
    if isinstance(value, Tensor):
        yield prefix, value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _tensors(f"{prefix}.{key}" if prefix else str(key), inner)
    elif isinstance(value, (list, tuple)):
        for number, inner in enumerate(value):
            yield from _tensors(f"{prefix}.{number}", inner)


def last_checkpoint(run: Path) -> str:
    """A sentence that names a run's last checkpoint, from which training can be resumed."""
    try:
        checkpoint = newest(run / "checkpoints")
    except UserError as error:  # must not replace the error that this sentence is part of
        return f"{error}."
    if checkpoint is None:
        return "No checkpoint was written before."
    return f"The last good checkpoint is {checkpoint[0]} (step {checkpoint[1]})."
