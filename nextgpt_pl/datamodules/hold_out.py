"""Held-out split by a hash of each row's key, independent of all other rows."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

import numpy as np

from nextgpt_pl.modality import MODALITIES

_BYTES = 8
# columns that name media, input media first
_MEDIUM_KEYS = (
    *(key for m in MODALITIES for key in (f"input_{m}", m.value, f"{m}s")),
    *(f"{m}_name" for m in MODALITIES),
    *("file", "file_name", "video_id"),
    *(f"output_{m}" for m in MODALITIES),
)

_RANKS = {name: rank for rank, name in enumerate(_MEDIUM_KEYS)}

#: codes of the splits that a data set gives to its rows; 0: the row's number decides
SIDES = {None: 0, "train": 1, "val": 2}


def on_side(numbers: np.ndarray, sides: np.ndarray, split: str, fraction: float) -> np.ndarray:
    """Which rows are in a split, ``(n,)`` bool.

    Args:
        numbers: of :func:`hold_number`, ``(n,)``.
        sides: code of the split that the data set gives to each row, ``(n,)``.
        split: ``train`` or ``val``.
        fraction: expected fraction of the other rows in the validation split; 0: they are in both.

    """
    chosen = in_val(numbers.astype(np.uint64), fraction) == (split == "val") if fraction else np.True_
    return np.where(sides == SIDES[None], chosen, sides == SIDES[split])


def in_val(numbers: np.ndarray, fraction: float) -> np.ndarray:
    """Which rows are in the validation split, ``(n,)`` bool, from their numbers ``(n,)`` uint64.

    Deterministic across machines, processes and Python versions. Adding rows does not move other rows.

    Args:
        numbers: of :func:`hold_number`.
        fraction: expected fraction of rows in the validation split, from 0 to below 1.

    """
    return numbers < np.uint64(math.ceil(fraction * 2 ** (8 * _BYTES)))


def hold_number(key: str) -> int:
    """The number, from 0 to below 2**64, that decides on which side a row with this key is.

    Rows with equal keys are in the same split.
    """
    return int.from_bytes(blake2b(key.encode("utf-8", "surrogatepass"), digest_size=_BYTES).digest(), "big")


def row_key(row: Any) -> str:
    """A row's key for :func:`hold_number`: the name of its first medium, or the whole row if it names none.

    Rows about the same medium are in the same split. The key contains neither the row number nor the file's path.
    """
    if isinstance(row, Mapping):
        names = [name for name in row if name in _RANKS]
        for name in sorted(names, key=_RANKS.__getitem__) if len(names) > 1 else names:
            key = _name(row[name])
            if key:
                return key
        messages = row.get("messages")
        for message in messages if isinstance(messages, list) else ():
            key = _first_of_parts(message)
            if key:
                return key
    return json.dumps(row, sort_keys=True, ensure_ascii=False, default=str)


def _name(value: Any) -> str | None:
    """The name of a medium: a path or URL, or that of a struct; of a list, the first."""
    if isinstance(value, list) and value:
        value = value[0]
    if isinstance(value, Mapping):
        value = value.get("path") or value.get("url") or value.get("base64") or value.get("data")
    return value if isinstance(value, str) and value else None


def _first_of_parts(message: Any) -> str | None:
    """The first medium among the parts of a message."""
    content = message.get("content") if isinstance(message, Mapping) else None
    for part in content if isinstance(content, list) else ():
        if isinstance(part, Mapping) and part.get("text") is None:
            for key, value in part.items():
                if key not in ("type", "text"):
                    name = _name(value)
                    if name:
                        return name
    return None
