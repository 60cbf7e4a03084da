"""Ending a generation before its end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from transformers import StoppingCriteria

from nextgpt_pl.decoders.base import DrawingStep, OnStep

Stop = Callable[[], bool]


class StoppedError(Exception):
    """The consumer has stopped a reply."""


class StopTokens(StoppingCriteria):
    """Ends the generation of tokens.

    Args:
        stop: called once per token; when it returns true, :class:`StoppedError` is raised.

    """

    def __init__(self, stop: Stop) -> None:
        self._stop = stop

    def __call__(self, input_ids: Tensor, scores: Tensor, **_: Any) -> Tensor:
        """No row stops by itself, ``(N,)``."""
        if self._stop():
            raise StoppedError
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)


def stopping(stop: Stop) -> OnStep:
    """Ends drawing: a callback of denoising steps that raises :class:`StoppedError` when ``stop`` returns true."""

    def on_step(_step: DrawingStep) -> None:
        if stop():
            raise StoppedError

    return on_step
