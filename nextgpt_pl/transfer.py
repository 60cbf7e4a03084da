"""Copies to a GPU that do not make the host wait."""

from __future__ import annotations

import torch
from torch import Tensor


def upload(tensor: Tensor, device: torch.device | str) -> Tensor:
    """A tensor of the CPU on a device; the host goes on while it is copied to a CUDA GPU.

    CUDA alone keeps the source until it is copied: on other devices, memory that is freed at once could be copied.
    """
    return tensor.to(device, non_blocking=torch.device(device).type == "cuda")
