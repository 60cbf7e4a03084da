"""A run's folder with the pocket LLM, encoder and decoders, and random projections; it draws in two steps."""

import sys
from pathlib import Path

import yaml

from nextgpt_pl.modality import GENERATED

sys.path.insert(0, str(Path(__file__).parent.parent.parent / "benchmarks"))
from untrained import save_untrained


def save_run(folder: Path) -> Path:
    """Write ``config.yaml`` and ``adapter/`` to ``folder``, and return it."""
    save_untrained(folder, steps=2)
    network = yaml.safe_load((folder / "config.yaml").read_text())["model"]["init_args"]["network"]
    assert set(network["init_args"]["decoders"]) == set(GENERATED)
    return folder
