"""Validation of media arrays: finite values, and the formats of modalities that are plain arrays."""

from __future__ import annotations

import numpy as np

from nextgpt_pl.errors import UserError
from nextgpt_pl.modality import MODALITIES, Modality

_KINDS = {"f": "floating-point", "U": "text"}

#: modalities that are stored as plain arrays, such as depth
ARRAYS = tuple(modality for modality, spec in MODALITIES.items() if spec.array)


def finite(array: np.ndarray, modality: Modality, where: str) -> np.ndarray:
    """Return the array if all of its values are finite.

    Raises:
        UserError: values are not finite; the message names ``where``, their number and the first one's position.

    """
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        bad = np.argwhere(~np.isfinite(array))
        place = ", ".join(map(str, bad[0].tolist()))
        raise UserError(
            f"{where}: {len(bad)} of {array.size} values of this {modality} are not finite, the first at [{place}]"
        )
    return array


def readings(array: np.ndarray, modality: Modality, where: str) -> np.ndarray:
    """Validate an array of a modality that is stored as one, and convert numbers to float32.

    Raises:
        UserError: the array has another shape or dtype than the modality's row says, a value is not finite, or it is
            not from 0 to 1 though the row says so.

    """
    expected = MODALITIES[modality].array
    assert expected is not None
    if expected.unit and array.dtype == np.uint8:
        array = array.astype(np.float32) / 255
    fits = array.size and any(_has_shape(array, shape) for shape in expected.shapes)
    if not fits or array.dtype.kind != expected.kind:
        kind, shapes = _KINDS[expected.kind], " or ".join(expected.shapes)
        raise UserError(f"{where}: {modality} arrays are {kind} {shapes}, got {array.dtype} {array.shape}")
    if expected.kind != "f":
        return array
    array = finite(array.astype(np.float32), modality, where)
    if expected.unit and (array.min() < 0 or array.max() > 1):
        given = f"{array.min():g} to {array.max():g}"
        raise UserError(f"{where}: {modality} values must be in [0, 1], or uint8; got {given}")
    return array


def _has_shape(array: np.ndarray, shape: str) -> bool:
    """Whether an array has a shape such as ``(n, 3)``, where a letter is any size."""
    sizes = shape.strip("()").split(", ")
    pairs = zip(array.shape, sizes, strict=False)
    return array.ndim == len(sizes) and all(not size.isdigit() or int(size) == actual for actual, size in pairs)
