"""Where the pocket weights lie. ``pocket:NAME`` in a YAML means one of these folders."""

from __future__ import annotations

import os
from pathlib import Path

from nextgpt_pl.errors import UserError, nearest

PARTS = ("llm", "encoder", "image", "video", "audio")
PREFIX = "pocket:"


def weights_root() -> Path:
    """The folder of all pocket weights: inside the package, or where ``NEXTGPT_POCKET_WEIGHTS`` says."""
    return Path(os.environ.get("NEXTGPT_POCKET_WEIGHTS", Path(__file__).parent / "weights"))


def resolve(name: str) -> str:
    """A ``pocket:NAME`` as a folder; any other name (hub id or path) unchanged.

    Raises:
        UserError: no such part, or its weights were never made.

    """
    if not name.startswith(PREFIX):
        return name
    part = name.removeprefix(PREFIX)
    if part not in PARTS:
        raise UserError(f"{name!r}: no such pocket part{nearest(part, PARTS)}")
    folder = weights_root() / part
    if not folder.is_dir():
        raise UserError(
            f"{name!r}: no weights in {folder}; make them with: python -m nextgpt_pl pocket pretrain --part {part}"
        )
    return str(folder)
