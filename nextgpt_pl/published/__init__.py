"""Configurations of published models, so that their sizes are known without network access and weights.

There is one JSON file per model, with its hub ids and the configuration files that determine shapes.
"""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any


@lru_cache
def _files() -> dict[str, dict[str, Any]]:
    """Hub id to file name to content."""
    files_by_id: dict[str, dict[str, Any]] = {}
    for path in sorted(Path(__file__).parent.glob("*.json")):
        model = json.loads(path.read_text(encoding="utf-8"))
        files_by_id.update(dict.fromkeys(model["ids"], model["files"]))
    return files_by_id


def known_ids() -> list[str]:
    """Hub ids of all models in this folder."""
    return sorted(_files())


def read(hub_id: str, file: str) -> dict[str, Any] | None:
    """A JSON file of a published model, such as ``unet/config.json``; ``None`` if it is not in this folder."""
    content = _files().get(hub_id, {}).get(file)
    return None if content is None else dict(content)
