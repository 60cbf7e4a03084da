"""Validation of media arrays: finite values, and the shapes of depth, thermal and IMU readings."""

from __future__ import annotations

import numpy as np

from nextgpt_pl.errors import UserError
from nextgpt_pl.modality import Modality

#: modalities that are stored as plain arrays
ARRAYS = (Modality.DEPTH, Modality.THERMAL, Modality.IMU)


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
    """Validate a depth, thermal or IMU array and convert it to float32.

    Raises:
        UserError: the array has another shape or dtype, a value is not finite, or a thermal value is not in [0, 1].

    """
    if modality is Modality.THERMAL and array.dtype == np.uint8:
        array = array.astype(np.float32) / 255
    shape = "(6, n)" if modality is Modality.IMU else "(H, W)"
    valid_shape = array.ndim == 2 and array.size and (modality is not Modality.IMU or array.shape[0] == 6)
    if not valid_shape or array.dtype.kind != "f":
        raise UserError(f"{where}: {modality} arrays are floating-point {shape}, got {array.dtype} {array.shape}")
    array = finite(array.astype(np.float32), modality, where)
    if modality is Modality.THERMAL and (array.min() < 0 or array.max() > 1):
        raise UserError(f"{where}: thermal values must be in [0, 1], or uint8; got {array.min():g} to {array.max():g}")
    return array
