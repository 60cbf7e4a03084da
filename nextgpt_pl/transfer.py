"""Copies to a GPU that do not make the host wait."""

from __future__ import annotations

import torch
from torch import Tensor


def upload(tensor: Tensor, device: torch.device | str) -> Tensor:
    """A tensor of the CPU on a device; the host goes on while it is copied.

    Safe towards a GPU only: what is copied to the CPU must have arrived before it is read.
    """
    return tensor.to(device, non_blocking=torch.device(device).type != "cpu")
