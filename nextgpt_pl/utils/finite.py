"""Checks for NaN and infinity in weights before they are written and after they are read."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from nextgpt_pl.errors import UserError

_NAMED = 5


def not_finite(tensors: Mapping[str, Tensor]) -> list[str]:
    """Names of the floating-point tensors that hold NaN or infinity; one host synchronisation per device."""
    flags: dict[torch.device, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        own = tensor.detach()
        own = own.to_local() if isinstance(own, DTensor) else own
        if own.is_floating_point():
            flags.setdefault(own.device, {})[name] = own.isfinite().all()
    names: list[str] = []
    for of_device in flags.values():
        finite_flags = torch.stack(list(of_device.values())).tolist()
        names += [name for name, finite in zip(of_device, finite_flags, strict=True) if not finite]
    return names


def check_finite(tensors: Mapping[str, Tensor], where: str, hint: str | Callable[[], str] = "") -> None:
    """Refuse tensors that hold NaN or infinity.

    Args:
        tensors: tensors by name.
        where: start of the message.
        hint: end of the message; a function is called only if the check fails.

    Raises:
        UserError: a tensor is not finite; the message names up to five of them.

    """
    names = not_finite(tensors)
    if names:
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        end = hint() if callable(hint) else hint
        raise UserError(f"{where}: weights that are not finite: {', '.join(names[:_NAMED])}{more}{end}")
