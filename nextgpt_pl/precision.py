"""In what precision trained and frozen parts compute. Imports no Lightning."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Literal

import torch

from nextgpt_pl.errors import UserError

MatmulPrecision = Literal["highest", "high", "medium"]

#: ``trainer.precision`` under which trained weights stay float32
TRAINER_PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")

_DEVICE_TYPES = ("cpu", "cuda", "mps", "xpu")


@contextmanager
def own_precision() -> Iterator[None]:
    """A context, and as ``@own_precision()`` a decorator, in which autocast is off on every device.

    Frozen parts compute in the dtype of their weights. So what they give is the same whatever ``trainer.precision`` is,
    and a feature that was cached in one run is right in another.
    """
    with ExitStack() as stack:
        for device_type in _DEVICE_TYPES:
            if torch.is_autocast_enabled(device_type):
                stack.enter_context(torch.autocast(device_type, enabled=False))
        yield


def compute_dtype(weights: str | torch.dtype) -> str:
    """What a frozen part with such weights computes in, for the key of its cached features.

    Float32 products depend on ``torch.set_float32_matmul_precision`` too.
    """
    name = str(weights).removeprefix("torch.")
    products = torch.get_float32_matmul_precision()
    return name if name != "float32" or products == "highest" else f"{name}, {products} matmul precision"


def check_trainer_precision(precision: object) -> None:
    """Refuse what would turn trained weights, targets or frozen parts into another dtype.

    Args:
        precision: of the trainer, as Lightning spells it or as it may be configured (``32``, ``bf16``, ...).

    Raises:
        UserError: the message names the precisions that work.

    """
    aliases = {"None": "32-true", "32": "32-true", "16": "16-mixed", "bf16": "bf16-mixed"}
    found = aliases.get(str(precision), str(precision))
    if found not in TRAINER_PRECISIONS:
        raise UserError(
            f"trainer.precision={precision}: trained weights and targets are float32; use"
            f" {', '.join(TRAINER_PRECISIONS[:-1])} or {TRAINER_PRECISIONS[-1]}."
            " Frozen parts have a dtype of their own: llm.dtype and decoders.*.dtype"
        )
