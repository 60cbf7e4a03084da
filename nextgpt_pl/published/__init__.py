"""Configurations of published models, written down: their sizes are known without network and without weights.

One JSON file per model: its hub ids, and the configuration files of its repository that decide shapes. Weights are
never here; they are read from the hub, or from a folder, as the YAML says.
"""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any


@lru_cache
def _files() -> dict[str, dict[str, Any]]:
    """Hub id to file name to content."""
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(Path(__file__).parent.glob("*.json")):
        model = json.loads(path.read_text(encoding="utf-8"))
        found.update(dict.fromkeys(model["ids"], model["files"]))
    return found


def known_ids() -> list[str]:
    """The hub ids whose configurations are here."""
    return sorted(_files())


def read(hub_id: str, file: str) -> dict[str, Any] | None:
    """A JSON file of a published model, such as ``unet/config.json``; ``None`` for what is not written down."""
    content = _files().get(hub_id, {}).get(file)
    return None if content is None else dict(content)
