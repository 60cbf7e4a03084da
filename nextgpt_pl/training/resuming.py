"""Checks of a run's folder before a run starts or resumes in it: one process per folder, and the same settings."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nextgpt_pl.config.flat import flatten
from nextgpt_pl.config.yaml_files import parse_yaml, read_yaml
from nextgpt_pl.errors import UserError
from nextgpt_pl.training.checkpoint_io import read_checkpoint
from nextgpt_pl.utils.atomic import delete_abandoned

CONFIG = "config.yaml"
_LOCK = ".lock"
_WORDS = ("last", "best", "hpc")
_PATIENCE = 5.0  # seconds: processes of a killed run may still be ending
_SHOWN = 8  # differences in a message
#: sections whose values determine what a run learns
_LEARNED = ("model", "data", "seed_everything")
#: last parts of their keys that do not: where and how fast something is computed
_FREE = {"num_workers", "val_batch_size", "cache", "compile", "offload", "attention", "gradient_checkpointing"}
#: sections that describe a command, not a run
_OF_THE_COMMAND = ("run", "ckpt_path", "config")


@contextmanager
def occupied(folder: Path) -> Iterator[None]:
    """Lock a run's folder for this process, and delete the temporary files of killed ones.

    Raises:
        UserError: another process trains in it.

    """
    from filelock import FileLock, Timeout

    lock = FileLock(folder / _LOCK)
    try:
        lock.acquire(timeout=_PATIENCE)
    except Timeout:
        raise UserError(
            f"{folder}: another process trains in this folder; wait until it ends, or give another run.name"
        ) from None
    except (NotImplementedError, OSError):  # a file system without locks
        delete_abandoned(folder)
        yield
        return
    try:
        delete_abandoned(folder, after=0)  # no other process writes here
        yield
    finally:
        lock.release()


def check_checkpoint(path: Any) -> None:
    """Refuse a ``ckpt_path`` that is not a readable checkpoint, or names classes; ``None`` is accepted.

    Lightning's words for checkpoints, such as ``last``, are refused too: in a new run they name none, and Lightning
    would train from the first step.

    Raises:
        UserError: as :func:`read_checkpoint`.

    """
    if str(path) in _WORDS and not Path(path).exists():
        raise UserError(
            f"ckpt_path={path!r}: no such file; give the path of a checkpoint; with run.name and run.resume=true, a run"
            " resumes from its newest one"
        )
    if path is not None:
        read_checkpoint(path, mmap=True)


@contextmanager
def removed_if_failed(folder: Path) -> Iterator[None]:
    """Remove a new run's folder if the block fails before the run has left anything in it."""
    try:
        yield
    except BaseException:
        if {path.name for path in folder.iterdir()} <= {CONFIG, _LOCK}:
            shutil.rmtree(folder, ignore_errors=True)
        raise


def check_settings(folder: Path, text: str) -> list[str]:
    """Compare the settings of a run's folder, in which there are checkpoints, with those that it is resumed with.

    Args:
        folder: folder of the run.
        text: the new configuration, as YAML.

    Returns:
        Differences that are allowed, such as ``trainer.max_steps: 100, now 200``.

    Raises:
        UserError: settings differ that determine what the run learns.

    """
    if not any((folder / "checkpoints").glob("*.ckpt")) or not (folder / CONFIG).is_file():
        return []
    before, now = (flatten(value, keep_empty=True) for value in (read_yaml(folder / CONFIG), parse_yaml(text)))
    # keys that only one of them has come from another version of the package
    changed = [key for key in before if key in now and before[key] != now[key]]
    lines = {key: f"{key}: {before[key]!r:.80}, now {now[key]!r:.80}" for key in changed}
    refused = [line for key, line in lines.items() if _determines(key)]
    if refused:
        more = f"; and {len(refused) - _SHOWN} more" if len(refused) > _SHOWN else ""
        raise UserError(
            f"{folder} was trained with other settings: {'; '.join(refused[:_SHOWN])}{more}. Resume with the same ones,"
            " or start a run of another name; --ckpt_path continues from a checkpoint of this one"
        )
    return [line for key, line in lines.items() if key.split(".")[0] not in _OF_THE_COMMAND]


def _determines(key: str) -> bool:
    parts = key.split(".")
    return parts[0] in _LEARNED and not _FREE.intersection(parts)
