"""Decoding options of a reply."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

from nextgpt_pl.errors import UserError
from nextgpt_pl.modality import Modality

_SEEDS = 2**62  # seeds above are used for the media of a reply


@dataclass
class Decoding:
    """Decoding options.

    Args:
        max_new_tokens: maximum number of tokens of a reply.
        temperature: sampling temperature; 0 is greedy decoding.
        top_p: nucleus sampling: cumulative probability of the tokens that are sampled from.
        seed: seed of the sampling.
        modalities: media that a reply contains: each of these at least once, and no others. ``None``: the model
            decides; an empty list: no media.

    Raises:
        UserError: a value is not a number or out of bounds.

    """

    max_new_tokens: int = 160
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    modalities: Sequence[Modality] | None = None

    def __post_init__(self) -> None:
        if not _is_integer(self.max_new_tokens) or self.max_new_tokens < 1:
            raise UserError(f"max_new_tokens={self.max_new_tokens!r}: a whole number of tokens, at least 1")
        if not _is_number(self.temperature) or self.temperature < 0:
            raise UserError(f"temperature={self.temperature!r}: a number, 0 or above")
        if not _is_number(self.top_p) or not 0 < self.top_p <= 1:
            raise UserError(f"top_p={self.top_p!r}: a share of the probability, above 0 and at most 1")
        check_seed(self.seed)

    def sampling(self) -> dict[str, Any]:
        """Arguments of transformers' ``generate``."""
        if self.temperature <= 0:
            return {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
        return {"do_sample": True, "temperature": self.temperature, "top_p": self.top_p, "top_k": 0}


def check_seed(seed: object, name: str = "seed") -> None:
    """Raise a :class:`UserError` if a value is not a valid seed."""
    if not _is_integer(seed) or not 0 <= int(seed) < _SEEDS:  # type: ignore[call-overload]
        raise UserError(f"{name}={seed!r}: a whole number from 0 to {_SEEDS - 1}")


def check_count(value: object, name: str) -> None:
    """Raise a :class:`UserError` if a value is not a whole number of 0 or above."""
    if not _is_integer(value) or int(value) < 0:  # type: ignore[call-overload]
        raise UserError(f"{name}={value!r}: a whole number, 0 or above")


def _is_integer(value: object) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
