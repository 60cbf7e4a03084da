"""AdamW and its learning rates: per group of parameters, and over the steps of a training."""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from transformers import get_scheduler

from nextgpt_pl.errors import UserError, at_least

_STATE = {"step", "exp_avg", "exp_avg_sq"}  # what AdamW keeps of a parameter
_NUMBERS = ("lr", "eps", "weight_decay")

Schedule = Literal["linear", "cosine", "constant_with_warmup"]


@dataclass(frozen=True)
class Optimization:
    """See :class:`~nextgpt_pl.stages.base.Stage` for what each attribute means.

    Raises:
        UserError: a value is out of bounds.

    """

    lr: float
    weight_decay: float
    betas: tuple[float, float]
    warmup_ratio: float
    schedule: Schedule
    lr_scales: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0 < self.lr < math.inf:
            raise UserError(f"model.lr={self.lr}: a learning rate is positive")
        at_least(0, model__weight_decay=self.weight_decay)
        if not all(0 <= beta < 1 for beta in self.betas):
            raise UserError(f"model.betas={list(self.betas)}: two numbers are expected, from 0 to below 1")
        for pattern, scale in self.lr_scales.items():
            if not 0 < scale < math.inf:
                raise UserError(f"model.lr_scales[{pattern!r}]={scale}: a factor on the learning rate is positive")
        if not 0 <= self.warmup_ratio < 1:
            raise UserError(f"model.warmup_ratio={self.warmup_ratio}: it is a share of all steps, from 0 to below 1")

    def groups(self, trainable: Mapping[str, torch.nn.Parameter]) -> list[dict[str, Any]]:
        """The trained parameters, grouped by learning rate.

        Raises:
            UserError: a pattern of ``lr_scales`` matches no trained parameter.

        """
        groups: dict[float, list[torch.nn.Parameter]] = {}
        used = set()
        for name, parameter in trainable.items():
            pattern = next((p for p in self.lr_scales if fnmatch.fnmatchcase(name, p)), None)
            used.add(pattern)
            groups.setdefault(1.0 if pattern is None else self.lr_scales[pattern], []).append(parameter)
        unused = [pattern for pattern in self.lr_scales if pattern not in used]
        if unused:
            raise UserError(f"model.lr_scales: {unused[0]!r} fits no parameter that trains, or an earlier one does")
        return [{"params": params, "lr": self.lr * scale} for scale, params in groups.items()]

    def configure(self, groups: list[dict[str, Any]], steps: int, fused: bool = False) -> dict[str, Any]:
        """The result of Lightning's ``configure_optimizers``: AdamW with warm-up and schedule, stepped per batch.

        Args:
            groups: parameter groups of :meth:`groups`.
            steps: optimizer steps of the complete training.
            fused: update all parameters in one kernel, which is several times as fast on CPUs.

        """
        settings: dict[str, Any] = {"lr": self.lr, "weight_decay": self.weight_decay, "betas": self.betas}
        # None: PyTorch's own choice, which is foreach on GPUs
        optimizer = torch.optim.AdamW(groups, **settings, fused=fused or None)
        schedule = get_scheduler(self.schedule, optimizer, int(self.warmup_ratio * steps), steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def check_restored(optimizer: torch.optim.Optimizer) -> None:
    """Refuse a state of AdamW that a checkpoint has set and that does not fit the parameters.

    Raises:
        UserError: a state lacks an entry, or has one of another shape or type.

    """
    for group in optimizer.param_groups:
        numbers = [*(group.get(name) for name in _NUMBERS), *(group.get("betas") or (None,))]
        if not all(isinstance(number, int | float | torch.Tensor) and math.isfinite(number) for number in numbers):
            raise UserError(f"the checkpoint's optimizer is damaged: finite {', '.join(_NUMBERS)}, betas are expected")
        for parameter in group["params"]:
            state = optimizer.state.get(parameter)
            if state and not _fits(state, parameter):
                raise UserError("the checkpoint's optimizer is damaged: a state has other entries than its parameter")


def _fits(state: Mapping[str, torch.Tensor], parameter: torch.Tensor) -> bool:
    shapes = {name: torch.Size() if name == "step" else parameter.shape for name in _STATE}
    return {name: value.shape for name, value in state.items()} == shapes
