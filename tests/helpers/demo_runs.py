"""A run's folder with the pocket LLM, encoder and decoders, and random projections; it draws in two steps."""

from pathlib import Path
from typing import Any

import torch
import yaml

from nextgpt_pl.adapter import save_adapter
from nextgpt_pl.modality import GENERATED
from nextgpt_pl.saved_network import network_of

POCKET = Path(__file__).parent.parent.parent / "experiments" / "models" / "pocket.yaml"


def save_run(folder: Path) -> Path:
    """Write ``config.yaml`` and ``adapter/`` to ``folder``, and return it."""
    network: dict[str, Any] = yaml.safe_load(POCKET.read_text())
    for decoder in (
        network["init_args"]["decoders"].values() if "init_args" in network else network["decoders"].values()
    ):
        decoder["init_args"].setdefault("sampling", {})["num_inference_steps"] = 2
    config = {"model": {"init_args": {"network": network}}}
    torch.manual_seed(0)
    loaded = network_of(config)
    loaded.load()
    keys = [name for name, _ in loaded.named_parameters() if "projections" in name or name.endswith(".rows")]
    save_adapter(folder / "adapter", loaded, keys, stage="InstructionTuning")
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    assert set(loaded.decoders) == set(GENERATED)
    return folder
