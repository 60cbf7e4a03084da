"""Which rows are kept for validation: decided by a hash of each row's key, whatever other rows there are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

from nextgpt_pl.modality import MODALITIES

_BYTES = 8


def held_out(key: str, fraction: float) -> bool:
    """Whether the row of this key is for validation.

    The same on every machine, in every process and Python version; adding rows moves none.

    Args:
        key: of the row; rows of equal keys are on the same side.
        fraction: expected share of the keys for validation, from 0 to below 1.

    """
    number = int.from_bytes(blake2b(key.encode("utf-8", "surrogatepass"), digest_size=_BYTES).digest(), "big")
    return number < fraction * 2 ** (8 * _BYTES)


def row_key(row: Any) -> str:
    """A row's key for :func:`held_out`: the name of the first medium that it names, or else all that it says.

    So rows about the same medium stay together, and neither the row's number nor its file's place is part of the key.
    """
    if isinstance(row, Mapping):
        for name in _medium_keys():
            value = row.get(name)
            value = value[0] if isinstance(value, list) and value else value
            if isinstance(value, str) and value:
                return value
    return json.dumps(row, sort_keys=True, ensure_ascii=False, default=str)


def _medium_keys() -> list[str]:
    """The row keys that name media, those of shown media first."""
    shown = [key for m in MODALITIES for key in (f"input_{m}", m.value)]
    return [*shown, *(f"{m}_name" for m in MODALITIES), "file", "file_name", *(f"output_{m}" for m in MODALITIES)]
