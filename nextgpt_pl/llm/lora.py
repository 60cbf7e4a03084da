"""Low-rank updates of a frozen LLM's layers (LoRA, Hu et al. 2021, arXiv 2106.09685), by peft."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from nextgpt_pl.errors import UserError, at_least


@dataclass
class LoRA:
    """Low-rank updates of the LLM's layers (paper: r = 32 on the attention's four projections).

    Args:
        r: rank.
        alpha: the update is scaled by alpha / r.
        dropout: dropout probability on the update's input.
        target_modules: names of the layers.

    """

    r: int = 32
    alpha: int = 32
    dropout: float = 0.1
    target_modules: list[str] = field(default_factory=lambda: ["q_proj", "k_proj", "v_proj", "o_proj"])

    def __post_init__(self) -> None:
        self.target_modules = list(self.target_modules)
        at_least(1, lora__r=self.r, lora__alpha=self.alpha)
        if not 0 <= self.dropout < 1:
            raise UserError(f"lora.dropout={self.dropout}: a probability, below 1")


def inject_lora(model: Any, lora: LoRA) -> None:
    """Add the low-rank updates to ``model``, initialised to zero in float32, frozen and without dropout.

    Raises:
        UserError: no layer has one of the names in ``target_modules``; the message lists the layers' names.

    """
    _check_targets(model, lora.target_modules)
    from peft import LoraConfig, inject_adapter_in_model

    config = LoraConfig(
        r=lora.r, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=list(lora.target_modules)
    )
    try:
        inject_adapter_in_model(config, model)
    except ValueError as error:
        raise UserError(f"lora.target_modules={list(lora.target_modules)}: {str(error).splitlines()[0]}") from error
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data = parameter.data.float()
            parameter.requires_grad_(False)


def _check_targets(model: Any, names: Sequence[str]) -> None:
    """Check that each name is that of a layer; peft ignores those that are not, as long as one is."""
    modules = dict(model.named_modules())
    missing = [name for name in names if not any(f".{path}".endswith(f".{name}") for path in modules)]
    if missing:
        head = model.get_output_embeddings().base
        linear = [path for path, layer in modules.items() if isinstance(layer, nn.Linear) and layer is not head]
        known = sorted({path.rpartition(".")[2] for path in linear})
        raise UserError(
            f"lora.target_modules={list(names)}: {type(model).__name__} has no layer {', '.join(missing)};"
            f" its layers are {', '.join(known)}"
        )


def set_dropout(model: Any, mode: bool) -> None:
    """Let the dropout of low-rank updates follow the mode if they train; else it is off."""
    trains = any(p.requires_grad for name, p in model.named_parameters() if "lora_" in name)
    for name, module in model.named_modules():
        if "lora_dropout" in name:
            module.train(mode and trains)


def merge_lora(model: Any) -> None:
    """Add the updates to the layers' weights, so that a pass computes one matrix product per layer instead of three.

    Layers whose weights are not float32 stay as they are, since the sum would be rounded.
    """
    from peft.tuners.lora import Linear

    for module in model.modules():
        if isinstance(module, Linear) and module.get_base_layer().weight.dtype is torch.float32:
            module.merge()
