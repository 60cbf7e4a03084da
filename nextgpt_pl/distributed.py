"""Numbers and weights that belong to all processes together. Alone, every function gives back what it was given.

All of these are collective: every process has to call them, in the same order.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor


def processes() -> int:
    """How many there are."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """The number of this one."""
    return dist.get_rank() if processes() > 1 else 0


def communication_device() -> torch.device | None:
    """Where tensors must be for processes to exchange them; ``None`` if it does not matter."""
    if processes() > 1 and dist.get_backend() == "nccl":
        return torch.device("cuda", torch.cuda.current_device())
    return None


def summed(values: Tensor) -> Tensor:
    """Sum over processes, without a gradient."""
    values = values.detach()
    if processes() > 1:
        values = values.clone()
        dist.all_reduce(values)
    return values


def per_process(counts: Sequence[int], device: torch.device | str) -> list[float]:
    """The mean of each count over processes.

    What is summed over a process's own items and divided by this has, averaged over processes, the mean over all
    items; so have its gradients, which FSDP and DDP average. Dividing by the process's own count would give items of
    a process that has few of them more weight than one process alone gives them.
    """
    if processes() == 1:
        return [float(count) for count in counts]
    return (summed(torch.tensor(counts, dtype=torch.float64, device=device)) / processes()).tolist()


def largest(number: int, device: torch.device | str) -> int:
    """The largest of the processes' numbers."""
    if processes() == 1:
        return number
    found = torch.tensor(number, device=device)
    dist.all_reduce(found, dist.ReduceOp.MAX)
    return int(found)


def any_process(flag: bool, device: torch.device | str) -> bool:
    """Whether the flag is up anywhere."""
    return bool(flag) if processes() == 1 else bool(summed(torch.tensor(float(flag), device=device)) > 0)


def whole(tensor: Tensor, device: torch.device | str | None = None) -> Tensor:
    """A sharded tensor put together, on the CPU; ``device`` is where its processes communicate."""
    if isinstance(tensor, DTensor):
        shards = tensor.detach()
        placed = cast(DTensor, shards if device is None else shards.to(device))
        return placed.full_tensor().cpu()
    return tensor.detach().cpu()


def own_shard(value: Tensor, like: Tensor) -> Tensor:
    """A whole tensor cut as ``like`` is; every process has the whole one, so nothing is sent."""
    if not isinstance(like, DTensor):
        return value
    from torch.distributed.tensor import distribute_tensor

    placed = value.to(like.device)
    return distribute_tensor(placed, like.device_mesh, like.placements, src_data_rank=None)


def untouched(modules: Iterable[nn.Module], like: Tensor) -> Tensor:
    """Zero, in ``like``'s dtype, that gives every trainable parameter of the modules a gradient of zero.

    For what a batch has no use for: a parameter without a gradient on one process and with one on another is never
    made equal again (FSDP), or ends the run (DDP).
    """
    zero = like.new_zeros(())
    if not torch.is_grad_enabled():
        return zero
    for module in modules:
        for parameter in module.parameters():
            if parameter.requires_grad:
                zero = zero + (parameter.sum() * 0).to(like.dtype)
    return zero
