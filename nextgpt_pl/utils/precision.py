"""Compute precision of trained and frozen parts. Imports no Lightning."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Literal

import torch

from nextgpt_pl.errors import UserError

MatmulPrecision = Literal["highest", "high", "medium"]

#: values of ``trainer.precision`` that keep trained weights in float32
TRAINER_PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")

_DEVICE_TYPES = ("cpu", "cuda", "mps", "xpu")


@contextmanager
def own_precision() -> Iterator[None]:
    """Disable autocast on every device; a context manager, or a decorator as ``@own_precision()``.

    Frozen parts compute in the dtype of their weights. Their outputs do not depend on ``trainer.precision``, so cached
    features are valid across runs.
    """
    with ExitStack() as stack:
        for device_type in _DEVICE_TYPES:
            if torch.is_autocast_enabled(device_type):
                stack.enter_context(torch.autocast(device_type, enabled=False))
        yield


def compute_dtype(weights: str | torch.dtype) -> str:
    """The compute precision of a frozen part with weights of this dtype; part of the key of its cached features.

    In float32 it includes the setting of ``torch.set_float32_matmul_precision``.
    """
    name = str(weights).removeprefix("torch.")
    products = torch.get_float32_matmul_precision()
    return name if name != "float32" or products == "highest" else f"{name}, {products} matmul precision"


def check_trainer_precision(precision: object) -> None:
    """Refuse precisions that convert trained weights, targets or frozen parts to another dtype.

    Args:
        precision: ``trainer.precision``, in Lightning's long or short spelling (``32``, ``bf16``, ...).

    Raises:
        UserError: the precision is not supported; the message names those that are.

    """
    aliases = {"None": "32-true", "32": "32-true", "16": "16-mixed", "bf16": "bf16-mixed"}
    full_name = aliases.get(str(precision), str(precision))
    if full_name not in TRAINER_PRECISIONS:
        raise UserError(
            f"trainer.precision={precision}: trained weights and targets must be float32; use"
            f" {', '.join(TRAINER_PRECISIONS[:-1])} or {TRAINER_PRECISIONS[-1]}."
            " The dtype of frozen parts is set by llm.dtype and decoders.*.dtype"
        )
