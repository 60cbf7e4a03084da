"""Errors that the user can fix: the command line prints their message without a traceback and exits with code 2."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable
from pathlib import Path


class UserError(ValueError):
    """Invalid configuration, file or argument; the message names it and says what is expected."""


class MissingFileError(UserError):
    """A file that a row names does not exist.

    Attributes:
        path: where it was expected.

    """

    def __init__(self, message: str, path: str) -> None:
        super().__init__(message)
        self.path = path


def at_least(least: float, most: float = math.inf, /, **values: float | None) -> None:
    """Refuse numbers that are smaller than ``least``, larger than ``most`` or not finite; ``None`` is accepted.

    Args:
        least: the smallest valid number.
        most: the largest valid number.
        values: numbers by name; a double underscore stands for a dot.

    Raises:
        UserError: a number is invalid; the message names it, its value and the bound.

    """
    for name, value in values.items():
        if value is not None and not (least <= value <= most and value < math.inf):
            bound = f"at most {most:,}" if most < value < math.inf else f"at least {least}"
            raise UserError(f"{name.replace('__', '.')}={value}: {bound} is expected")


def no_file(path: Path) -> str:
    """``PATH: no such file``; if there is no ``experiments/``, which wheels do not contain, where it is."""
    folder = next((parent for parent in path.parents if parent.name == "experiments"), None)
    if folder is None or folder.is_dir():
        return f"{path}: no such file"
    return (
        f"{path}: no such file; experiments/ is part of the project's repository and not of the installed package, "
        "so run the command in a clone"
    )


def nearest(name: str, known: Iterable[str]) -> str:
    """A ``; did you mean ...?`` clause with the nearest known name, or the known names if none is near."""
    choices = sorted(known)
    close = difflib.get_close_matches(name, choices, n=1, cutoff=0.5)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; known: {', '.join(choices)}" if choices else ""
