"""Read image files and PIL images as RGB of 8 bits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from nextgpt_pl.errors import UserError
from nextgpt_pl.media.arrays import finite
from nextgpt_pl.media.files import MAX_PIXELS, check_sides, existing, unreadable
from nextgpt_pl.modality import Modality

_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx")
_DEEP_MODES = ("I", "I;16", "I;16L", "I;16B", "I;16N", "F")  # one channel of more than 8 bits


def load_image(path: Path, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Read an image file as RGB; see :func:`rgb`.

    Raises:
        UserError: the file is missing, unreadable, HEIC without pillow-heif, or refused by :func:`rgb`.

    """
    try:
        with opened_image(existing(path)) as image:
            return rgb(image, str(path), max_pixels)
    except UserError:
        raise
    except Exception as error:  # a decoder may raise anything on damaged data
        raise unreadable(path, "image", error) from error


def opened_image(path: Path) -> Image.Image:
    """Open an image file; its pixels are decoded when they are asked for.

    Raises:
        UserError: it is HEIC, and pillow-heif is not installed.
        Exception: Pillow's, if it is no image.

    """
    _prepare_pillow(path)
    return Image.open(path)


def rgb(image: Image.Image, where: str, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """``(H, W, 3)`` uint8: rotated by the EXIF orientation, transparent pixels composited on white.

    Pixels of 16 bits are divided by 257. Floating-point pixels are in [0, 1], or else in [0, 255].

    Raises:
        UserError: the image is too large or too narrow, which is checked before decoding, or a pixel is not finite or
            out of range.

    """
    check_sides(where, image.width, image.height, max_pixels)
    upright = ImageOps.exif_transpose(image)
    if upright.mode in _DEEP_MODES:
        upright = Image.fromarray(_eight_bits(np.asarray(upright), where))
    if "A" in upright.getbands() or "a" in upright.getbands() or "transparency" in upright.info:
        layer = upright.convert("RGBA")
        upright = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    return np.asarray(upright.convert("RGB"))


def _eight_bits(pixels: np.ndarray, where: str) -> np.ndarray:
    """``(H, W)`` of 16 bits, 32 bits or floating point as uint8."""
    floating = pixels.dtype.kind == "f"
    pixels = finite(pixels, Modality.IMAGE, where).astype(np.float32)
    low, high = pixels.min(), pixels.max()
    top = (1 if high <= 1 else 255) if floating else 65535
    if low < 0 or high > top:
        expected = "floating-point pixels are in [0, 1] or [0, 255]" if floating else "pixels are in [0, 65535]"
        raise UserError(f"{where}: {expected}, these are from {low:g} to {high:g}")
    return (pixels * (255 / top)).round().astype(np.uint8)


def _prepare_pillow(path: Path) -> None:
    """Register the decoder of HEIC files if this is one; Pillow has none of its own.

    Raises:
        UserError: pillow-heif is not installed.

    """
    with path.open("rb") as file:
        head = file.read(64)
    if head[4:8] != b"ftyp" or not any(brand in head for brand in _HEIF_BRANDS):
        return
    try:
        from pillow_heif import register_heif_opener
    except ImportError as error:
        raise UserError(f"{path}: HEIC images need pillow-heif: pip install 'nextgpt-pl[heic]'") from error
    register_heif_opener()
