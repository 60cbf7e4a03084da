"""Report invalid settings of Lightning's Trainer as user errors, including those that Lightning accepts silently.

Only exceptions that Lightning itself raises about a setting are converted; all others keep their traceback.
"""

from __future__ import annotations

import inspect
import re
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Trainer

from nextgpt_pl.errors import UserError

_LIGHTNING = Path(lightning.__file__).parent
_COMPLAINTS = (MisconfigurationException, ValueError, TypeError, ImportError)
# least valid values of settings that Lightning does not check
_LEAST = {
    "accumulate_grad_batches": 1,
    "check_val_every_n_epoch": 1,
    "gradient_clip_val": 0,
    "limit_predict_batches": 0,
    "log_every_n_steps": 0,
    "max_epochs": -1,
    "max_steps": -1,
    "min_epochs": 0,
    "min_steps": 0,
    "num_nodes": 1,
    "num_sanity_val_steps": -1,
}
_SEEDS = 2**32
# folders of Lightning's code, and the setting that the code in them handles
_FOLDERS = {"accelerators": "accelerator", "strategies": "strategy", "loggers": "logger", "profilers": "profiler"}


def check_seed(seed: Any) -> None:
    """Refuse a value that is not a seed of numpy.

    Raises:
        UserError: the seed is out of bounds.

    """
    if not isinstance(seed, bool) and isinstance(seed, int) and not 0 <= seed < _SEEDS:
        raise UserError(f"seed_everything={seed}: expected 0 to {_SEEDS - 1}, or true for a random seed")


def check_trainer(settings: Mapping[str, Any]) -> None:
    """Refuse values that Lightning accepts but that fail during training.

    Raises:
        UserError: a value is invalid; the message names the key, the value and the least valid one.

    """
    for key, least in _LEAST.items():
        value = settings.get(key)
        # "not >=" also refuses NaN
        if isinstance(value, (int, float)) and not isinstance(value, bool) and not value >= least:
            raise UserError(f"trainer.{key}={value}: at least {least}")
    interval = settings.get("val_check_interval")
    if isinstance(interval, (int, float)) and not interval > 0:
        raise UserError(f"trainer.val_check_interval={interval}: a fraction of an epoch above 0, or at least 1 step")


@contextmanager
def trainer_errors(settings: Mapping[str, Any], *, making: bool = False) -> Iterator[None]:
    """Convert Lightning's exceptions about the Trainer's settings to user errors.

    Args:
        settings: arguments of the Trainer.
        making: whether the block creates the Trainer. If so, every exception is about its settings; otherwise only one
            that names a setting with another value than the default.

    Raises:
        UserError: Lightning refused a setting; the message names the setting, its value and Lightning's reason.

    """
    try:
        yield
    except _COMPLAINTS as error:
        if isinstance(error, UserError) or not _raised_by_lightning(error):
            raise
        named = _named(error, settings, making)
        if not named and not making:
            raise
        text = ", ".join(f"{key}={value!r}" for key, value in named.items())
        raise UserError(f"trainer.{text}: {_reason(error)}" if text else f"trainer: {_reason(error)}") from error


def _raised_by_lightning(error: Exception) -> bool:
    last = traceback.extract_tb(error.__traceback__)[-1]
    return Path(last.filename).is_relative_to(_LIGHTNING)


def _named(error: Exception, settings: Mapping[str, Any], making: bool) -> dict[str, Any]:
    """The settings that an error is about: named by key or by value in its message, or handled by the raising code."""
    message = str(error)
    changed = {key: value for key, value in settings.items() if key in _DEFAULTS and value != _DEFAULTS[key]}
    plain = {k: v for k, v in changed.items() if isinstance(v, (bool, int, float, str)) and k != "default_root_dir"}
    named = {k: v for k, v in plain.items() if re.search(rf"(?<![\w.]){k}(?!\w)", message)}
    if named or not making:
        return named
    valued = {k: v for k, v in plain.items() if isinstance(v, str) and re.search(rf"\b{re.escape(v)}\b", message)}
    folders = [Path(frame.filename).parent.name for frame in traceback.extract_tb(error.__traceback__)]
    made_by = {_FOLDERS[name] for name in folders if name in _FOLDERS}
    return valued or {k: v for k, v in plain.items() if k in made_by}


_DEFAULTS = {name: p.default for name, p in inspect.signature(Trainer).parameters.items()}


def _reason(error: Exception) -> str:
    """The first sentence of a message."""
    text = " ".join(str(error).split())
    return re.split(r"(?<=[^.][.!?])\s+(?=[A-Z])", text, maxsplit=1)[0]
