"""A run's folder with the pocket LLM, encoder and decoders, and random projections, for benchmarks and tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import yaml

from nextgpt_pl.adapter import save_adapter
from nextgpt_pl.saved_network import network_of

NETWORK = Path(__file__).parent.parent / "experiments" / "models" / "pocket.yaml"


def save_untrained(folder: Path, steps: int | None = None) -> Path:
    """Write ``config.yaml`` and ``adapter/`` to ``folder``, and return it.

    Args:
        folder: the run's folder.
        steps: denoising steps of the decoders; by default those of the experiments.

    """
    network: dict[str, Any] = yaml.safe_load(NETWORK.read_text())
    if steps is not None:
        for decoder in network["init_args"]["decoders"].values():
            decoder["init_args"]["sampling"]["num_inference_steps"] = steps
    config = {"model": {"init_args": {"network": network}}}
    torch.manual_seed(0)
    loaded = network_of(config)
    loaded.load()
    keys = [name for name, _ in loaded.named_parameters() if "projections" in name or name.endswith(".rows")]
    save_adapter(folder / "adapter", loaded, keys, stage="InstructionTuning")
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return folder
