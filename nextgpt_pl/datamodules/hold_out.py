"""Held-out split by a hash of each row's key, independent of all other rows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

from nextgpt_pl.modality import MODALITIES

_BYTES = 8


def held_out(key: str, fraction: float) -> bool:
    """Whether the row with this key belongs to the validation split.

    Deterministic across machines, processes and Python versions. Adding rows does not move other rows.

    Args:
        key: key of the row; rows with equal keys are in the same split.
        fraction: expected fraction of keys in the validation split, from 0 to below 1.

    """
    number = int.from_bytes(blake2b(key.encode("utf-8", "surrogatepass"), digest_size=_BYTES).digest(), "big")
    return number < fraction * 2 ** (8 * _BYTES)


def row_key(row: Any) -> str:
    """A row's key for :func:`held_out`: the name of its first medium, or the whole row if it names none.

    Rows about the same medium are in the same split. The key contains neither the row number nor the file's path.
    """
    if isinstance(row, Mapping):
        for name in _medium_keys():
            value = row.get(name)
            value = value[0] if isinstance(value, list) and value else value
            if isinstance(value, str) and value:
                return value
    return json.dumps(row, sort_keys=True, ensure_ascii=False, default=str)


def _medium_keys() -> list[str]:
    """Names of the columns that name media, input media first."""
    shown = [key for m in MODALITIES for key in (f"input_{m}", m.value)]
    return [*shown, *(f"{m}_name" for m in MODALITIES), "file", "file_name", *(f"output_{m}" for m in MODALITIES)]
