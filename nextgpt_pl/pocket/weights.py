"""Where the pocket weights lie."""

from __future__ import annotations

import os
from pathlib import Path

QUALITY = "quality.json"  # a part's record: how it was trained, what was measured
PARTS = ("llm", "encoder", "image", "video", "audio")


def weights_root() -> Path:
    """The folder of all pocket weights: inside the package, or where ``NEXTGPT_POCKET_WEIGHTS`` says."""
    return Path(os.environ.get("NEXTGPT_POCKET_WEIGHTS", Path(__file__).parent / "weights"))
