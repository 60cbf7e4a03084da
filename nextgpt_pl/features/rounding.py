"""Rounding of features to the dtype on disk, and the error that it makes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

Dtype = Literal["float16", "float32", "bfloat16", "float8_e4m3fn"]
DTYPES: tuple[str, ...] = get_args(Dtype)

SCALED = torch.float8_e4m3fn  # the dtype whose range is too small without scales
_LARGEST = torch.finfo(SCALED).max
_SMALLEST_SCALE = torch.finfo(torch.float32).tiny  # of a vector of zeros, which must not be divided by 0


@dataclass(frozen=True)
class Rounded:
    """A value, or several, as they are on disk.

    Attributes:
        stored: ``(..., D)`` in the dtype on disk.
        scales: float32 factors, one per vector of D numbers, ``(...)``; ``None``: all are 1.

    """

    stored: Tensor
    scales: Tensor | None = None

    @property
    def nbytes(self) -> int:
        """Size of numbers and scales."""
        return self.stored.nbytes + (0 if self.scales is None else self.scales.nbytes)

    def value(self) -> Tensor:
        """The value in float32; a view, without a copy, if that is the dtype on disk."""
        return self.stored.float() if self.scales is None else self.stored.float() * self.scales.unsqueeze(-1)

    def each(self) -> list[Rounded]:
        """The values of the first axis, one by one, as views."""
        scales = [None] * len(self.stored) if self.scales is None else self.scales.unbind()
        return [Rounded(*parts) for parts in zip(self.stored.unbind(), scales, strict=True)]


def rounded(values: Tensor, dtype: torch.dtype) -> Rounded:
    """A CPU copy, rounded to the nearest numbers of a dtype.

    Each vector of a value in ``float8_e4m3fn`` has a scale of its own, by which its largest number becomes 448, the
    largest of the dtype: in the embedding of a caption, some tokens are many times larger than the others. Numbers
    below about a 450,000th of their vector's largest become 0. The other dtypes have no scales.

    Args:
        values: ``(..., D)`` of any dtype, on any device.
        dtype: the dtype on disk.

    """
    values = values.detach().cpu()
    if dtype != SCALED:
        return Rounded(values.to(dtype, copy=True).contiguous())
    values = values.float()
    scales = (values.abs().amax(-1) / _LARGEST).clamp(min=_SMALLEST_SCALE)
    return Rounded((values / scales.unsqueeze(-1)).to(dtype).contiguous(), scales.contiguous())


def element_bytes(dtype: str, width: int) -> float:
    """Bytes per number of a vector of ``width`` numbers, its scale included."""
    kind: torch.dtype = getattr(torch, dtype)
    return kind.itemsize + (4 / width if kind == SCALED else 0)


@dataclass
class RoundingError:
    """Relative errors of rounded values: the norm of the error over the norm of the value.

    Attributes:
        count: number of values.
        squares: sum of the squared relative errors.
        largest: largest relative error.

    """

    count: int = 0
    squares: float = 0.0
    largest: float = 0.0

    @property
    def root_mean_square(self) -> float:
        """Root of the mean square; 0 without values."""
        return math.sqrt(self.squares / self.count) if self.count else 0.0

    def add(self, values: Tensor, kept: Tensor) -> None:
        """Add the errors of values ``(N, ...)``.

        Args:
            values: as they were computed.
            kept: the same as they are read from the store.

        """
        computed = values.detach().cpu().double().reshape(len(values), -1)
        norms = torch.linalg.vector_norm(computed, dim=1)
        errors = torch.linalg.vector_norm(kept.double().view_as(computed) - computed, dim=1) / norms
        errors = errors.where(norms > 0, 0.0)  # a value of zeros is exact
        self.count, self.squares = self.count + len(values), self.squares + float(errors.square().sum())
        self.largest = max(self.largest, float(errors.max()))

    def __add__(self, other: RoundingError) -> RoundingError:
        largest = max(self.largest, other.largest)
        return RoundingError(self.count + other.count, self.squares + other.squares, largest)

    def __str__(self) -> str:
        return f"relative error {self.root_mean_square:.2g} (root mean square), at most {self.largest:.2g}"
