"""Names of models in a YAML: ``pocket:NAME``, ``wheel:PACKAGE``, a folder, or a hub id."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

from nextgpt_pl.errors import UserError, nearest

POCKET_PARTS = ("llm", "encoder", "image", "video", "audio")


def pocket_weights() -> Path:
    """The folder of all pocket weights: inside the package, or the value of ``NEXTGPT_POCKET_WEIGHTS``."""
    return Path(os.environ.get("NEXTGPT_POCKET_WEIGHTS", Path(__file__).parent.parent / "pocket" / "weights"))


def resolve(name: str) -> str:
    """The folder that a name means; folders and hub ids are returned as they are.

    Raises:
        UserError: there is no such pocket part or its weights were never made, or no such package is installed.

    """
    kind, _, rest = name.partition(":")
    if kind == "pocket":
        return _pocket(name, rest)
    if kind == "wheel":
        # find_spec imports the parent package of a dotted name
        spec = importlib.util.find_spec(rest) if rest.isidentifier() else None
        if spec is None or not spec.submodule_search_locations:
            package = rest.replace("_", "-")
            raise UserError(f"{name!r}: no such package is installed; pip install --no-deps {package}")
        return spec.submodule_search_locations[0]
    return name


def _pocket(name: str, part: str) -> str:
    if part not in POCKET_PARTS:
        raise UserError(f"{name!r}: no such pocket part{nearest(part, POCKET_PARTS)}")
    folder = pocket_weights() / part
    if not folder.is_dir():
        raise UserError(
            f"{name!r}: no weights in {folder}; make them with: python -m nextgpt_pl pocket pretrain --part {part}"
        )
    return str(folder)
