"""Asynchronous copies from host to GPU."""

from __future__ import annotations

import torch
from torch import Tensor


def upload(tensor: Tensor, device: torch.device | str) -> Tensor:
    """Copy a CPU tensor to a device; copies to a CUDA GPU need no host synchronisation.

    Copies to other devices are synchronous: only CUDA keeps the source's memory alive until the copy is done.
    """
    return tensor.to(device, non_blocking=torch.device(device).type == "cuda")
