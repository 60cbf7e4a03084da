"""Checkpoints without frozen weights."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from nextgpt_pl.adapter import manifest_of, mismatches
from nextgpt_pl.errors import UserError
from nextgpt_pl.model import NextGPT

_PREFIX = "network."  # of the network's parameters in a stage's state dict


def keep_only(
    checkpoint: dict[str, Any], network: NextGPT, names: Sequence[str], stage: str, history: list[str]
) -> None:
    """Remove all weights but ``names`` from a checkpoint, and add their manifest.

    Args:
        checkpoint: checkpoint of Lightning.
        network: network of the parameters.
        names: names of the parameters to keep.
        stage: class name of the stage.
        history: the stages before it.

    """
    kept = {_PREFIX + name for name in names}
    checkpoint["state_dict"] = {k: v for k, v in checkpoint["state_dict"].items() if k in kept}
    checkpoint["manifest"] = json.dumps(manifest_of(network, names, stage, history))


def check_kept(checkpoint: dict[str, Any], network: NextGPT, names: Collection[str]) -> None:
    """Check that a checkpoint has exactly the parameters ``names`` and that they fit the network.

    Raises:
        UserError: a key is missing or unexpected, or the manifest does not fit the network.

    """
    expected = {_PREFIX + name for name in names}
    actual = set(checkpoint["state_dict"])
    if expected != actual:
        raise UserError(
            "the checkpoint is not of this experiment: "
            f"missing {sorted(expected - actual)[:5]}, unexpected {sorted(actual - expected)[:5]}"
        )
    tensors = {name.removeprefix(_PREFIX): value for name, value in checkpoint["state_dict"].items()}
    problems = mismatches(json.loads(checkpoint["manifest"]), tensors, network)
    if problems:
        raise UserError("the checkpoint does not fit this model:\n  " + "\n  ".join(problems))


def inherited_of(checkpoint: Mapping[str, Any], network: NextGPT) -> dict[str, Any]:
    """The manifest of the adapter that the checkpoint's run began from; of a run from nothing, without entries.

    Raises:
        UserError: its names are not those of stages, or of parameters of the network.

    """
    inherited = json.loads(checkpoint["inherited"])
    known = dict(network.named_parameters())
    for key in ("stages", "keys"):
        names = inherited[key]
        if not isinstance(names, list) or not all(
            isinstance(n, str) and (key == "stages" or n in known) for n in names
        ):
            raise UserError(f"the checkpoint is damaged: inherited.{key}: names are expected, got {names!r:.80}")
    return dict(inherited)


def parts_without(trainable: Collection[str], inherited: Collection[str]) -> list[str]:
    """Trained parts of the network without inherited weights."""
    names = set(trainable) - set(inherited)
    parts = {"llm LoRA" if "lora_" in n else "llm signal rows" if n.startswith("llm.") else n for n in names}
    return sorted({".".join(part.split(".")[:2]) for part in parts})
