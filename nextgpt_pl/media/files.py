"""Checks on media files before they are decoded, and the bounds on what is decoded."""

from __future__ import annotations

from pathlib import Path

from nextgpt_pl.errors import UserError

MAX_PIXELS = 64_000_000  # of an image, of one video frame, or of a depth, thermal or IMU array
MAX_RATIO = 200  # of an image's longer side to its shorter one: resizing the shorter side multiplies the longer one
MAX_SECONDS = 600.0
_SHOWN = 80  # characters of an invalid file name in a message


def is_file(path: str | Path) -> bool:
    """Whether there is a file of this name; false for names that no file can have, unlike ``Path.is_file``."""
    try:
        return Path(path).is_file()
    except (OSError, ValueError):
        return False


def existing(path: Path) -> Path:
    """The path of a file that exists and is not empty.

    Raises:
        UserError: the name is too long or has a zero byte, there is no such file, it is a folder, or it is empty.

    """
    try:
        size = path.stat().st_size
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{str(path)!r:.{_SHOWN}}: not the name of a file that can be read ({reason})") from error
    if not path.is_file():
        raise UserError(f"{path}: no such file; it is a folder")
    if size == 0:
        raise UserError(f"{path}: the file is empty")
    return path


def check_sides(where: str, width: int, height: int, max_pixels: int = MAX_PIXELS) -> None:
    """Refuse an image or frame that is too large or too narrow, before it is decoded.

    Raises:
        UserError: it has more than ``max_pixels``, or one side is more than ``MAX_RATIO`` times as long as the other.

    """
    if width * height > max_pixels:
        raise UserError(f"{where}: {width} x {height} pixels, at most {max_pixels:,} are read")
    if max(width, height) > MAX_RATIO * min(width, height):
        raise UserError(f"{where}: {width} x {height} pixels, sides of a ratio up to {MAX_RATIO} are read")


def unreadable(path: Path, what: str, error: Exception) -> UserError:
    """The error for a file that a decoder has refused."""
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return UserError(f"{path}: not a readable {what} ({reason})")
