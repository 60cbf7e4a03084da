"""Checkpoints that hold the kept parameters alone, never frozen weights that can be had from elsewhere."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from typing import Any

from nextgpt_pl.adapter import manifest_of, mismatches
from nextgpt_pl.errors import UserError
from nextgpt_pl.model import NextGPT

_PREFIX = "network."  # of the network's parameters in a stage's state dict


def keep_alone(
    checkpoint: dict[str, Any], network: NextGPT, names: Sequence[str], stage: str, history: list[str]
) -> None:
    """Drop all weights but those of ``names`` from a checkpoint, and describe these in its manifest.

    Args:
        checkpoint: of Lightning.
        network: whose parameters they are.
        names: of the network's parameters.
        stage: class name of the stage.
        history: the stages before it.

    """
    wanted = {_PREFIX + name for name in names}
    checkpoint["state_dict"] = {k: v for k, v in checkpoint["state_dict"].items() if k in wanted}
    checkpoint["manifest"] = json.dumps(manifest_of(network, names, stage, history))


def check_kept(checkpoint: dict[str, Any], network: NextGPT, names: Collection[str]) -> None:
    """Every parameter of ``names`` must be in the checkpoint, and nothing else, and must fit the network.

    Raises:
        UserError: naming the keys that are missing or unexpected, or what else of the model is another.

    """
    wanted = {_PREFIX + name for name in names}
    found = set(checkpoint["state_dict"])
    if wanted != found:
        raise UserError(
            "the checkpoint is not of this experiment: "
            f"missing {sorted(wanted - found)[:5]}, unexpected {sorted(found - wanted)[:5]}"
        )
    tensors = {name.removeprefix(_PREFIX): value for name, value in checkpoint["state_dict"].items()}
    problems = mismatches(json.loads(checkpoint["manifest"]), tensors, network)
    if problems:
        raise UserError("the checkpoint does not fit this model:\n  " + "\n  ".join(problems))


def parts_without(trainable: Collection[str], inherited: Collection[str]) -> list[str]:
    """The parts of the network that train, but of which nothing was inherited."""
    names = set(trainable) - set(inherited)
    parts = {"llm LoRA" if "lora_" in n else "llm signal rows" if n.startswith("llm.") else n for n in names}
    return sorted({".".join(part.split(".")[:2]) for part in parts})
