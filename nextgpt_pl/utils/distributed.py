"""Collectives over all ranks. With one process, each function returns its argument.

Every rank has to call them, in the same order.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from nextgpt_pl.utils.transfer import upload

T = TypeVar("T")


def world_size() -> int:
    """The number of ranks; 1 without a process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """The rank of this process; 0 without a process group."""
    return dist.get_rank() if world_size() > 1 else 0


def communication_device() -> torch.device | None:
    """The device that the collectives' backend requires; ``None`` if any device will do."""
    # with cpu_offload the backend is "cuda:nccl,cpu:gloo"
    if world_size() > 1 and "nccl" in dist.get_backend():
        return torch.device("cuda", torch.cuda.current_device())
    return None


def all_reduce_sum(values: Tensor) -> Tensor:
    """Sum over ranks, without a gradient."""
    values = values.detach()
    if world_size() > 1:
        values = values.clone()
        dist.all_reduce(values)
    return values


def all_gather_objects(value: T) -> list[T]:
    """The values of all ranks in order (all-gather of small picklable objects)."""
    if world_size() == 1:
        return [value]
    values: list[T | None] = [None] * world_size()
    dist.all_gather_object(values, value)
    return cast(list[T], values)


@dataclass(frozen=True)
class Mean:
    """A mean over the items of all ranks.

    Attributes:
        part: this rank's term, a scalar with a gradient. Its average over ranks is the mean over all items, and so is
            the gradient that FSDP and DDP average. The average of each rank's own mean would weight items by the number
            of items on their rank.
        value: the mean, a scalar without a gradient; 0 if no rank has an item.
        count: items of all ranks: a number, or with several ranks a scalar on the device of the sums.

    """

    part: Tensor
    value: Tensor
    count: float | Tensor


def means(names: Sequence[str], sums: Mapping[str, tuple[Tensor, int]]) -> dict[str, Mean]:
    """Means over all ranks with one all-reduce of sums and counts.

    Args:
        names: names of the means, in the same order on all ranks, whatever their batches hold.
        sums: per name, the sum over this rank's items and their number; a missing name has no items on this rank.

    Raises:
        ValueError: ``sums`` has a name that is not in ``names``, or is empty.

    """
    unknown = sums.keys() - set(names)
    if unknown or not sums:
        raise ValueError(f"sums={sorted(sums)}: expected at least one, and only names of {list(names)}")
    device = next(iter(sums.values()))[0].device
    if world_size() == 1:
        parts = {name: total.float() / max(1, count) for name, (total, count) in sums.items()}
        return {name: Mean(part, part.detach(), sums[name][1]) for name, part in parts.items()}
    nothing = torch.zeros((), device=device)
    totals = [sums[name][0].detach().double() if name in sums else nothing.double() for name in names]
    counts = torch.tensor([sums[name][1] if name in sums else 0 for name in names], dtype=torch.float64)
    reduced = all_reduce_sum(torch.cat([torch.stack(totals), upload(counts, device)]))
    result = {}
    for name, total, count in zip(names, *reduced.chunk(2), strict=True):
        divisor = count.clamp(min=1)
        own = sums[name][0].float() if name in sums else nothing
        result[name] = Mean(own / (divisor / world_size()).float(), (total / divisor).float(), count)
    return result


def all_reduce_max(numbers: Sequence[int], device: torch.device | str) -> list[int]:
    """Element-wise maximum of the ranks' numbers (all-reduce)."""
    if world_size() == 1:
        return list(numbers)
    maxima = upload(torch.tensor(numbers), device)
    dist.all_reduce(maxima, dist.ReduceOp.MAX)
    return [int(number) for number in maxima.tolist()]


def any_rank(flag: bool, device: torch.device | str) -> bool:
    """Whether the flag is set on any rank."""
    return bool(flag) if world_size() == 1 else bool(all_reduce_sum(torch.tensor(float(flag), device=device)) > 0)


def broadcast_object(value: T) -> T:
    """The value of rank 0 on all ranks (broadcast of a picklable object)."""
    sent = [value]
    if world_size() > 1:
        dist.broadcast_object_list(sent)
    return sent[0]


def full_tensor(tensor: Tensor, device: torch.device | str | None = None) -> Tensor:
    """The full tensor of a sharded one, on the CPU (all-gather).

    Args:
        tensor: a tensor; one that is not sharded is copied to the CPU.
        device: device that the collectives require; see :func:`communication_device`.

    """
    if isinstance(tensor, DTensor):
        shards = tensor.detach()
        placed = cast(DTensor, shards if device is None else shards.to(device))
        return placed.full_tensor().cpu()
    return tensor.detach().cpu()


def own_shard(value: Tensor, like: Tensor) -> Tensor:
    """Shard a full tensor as ``like`` is sharded; every rank has the full tensor, so nothing is sent."""
    if not isinstance(like, DTensor):
        return value
    from torch.distributed.tensor import distribute_tensor

    placed = value.to(like.device)
    return distribute_tensor(placed, like.device_mesh, like.placements, src_data_rank=None)


def zero_gradients(parameters: Iterable[nn.Parameter], like: Tensor) -> Tensor:
    """A zero, in ``like``'s dtype, whose backward pass gives every trainable one of the parameters a zero gradient.

    A parameter that has a gradient on some ranks only diverges between ranks under FSDP and is an error under DDP.
    """
    zero = like.new_zeros(())
    if not torch.is_grad_enabled():
        return zero
    for parameter in parameters:
        if parameter.requires_grad:
            zero = zero + (parameter.sum() * 0).to(like.dtype)
    return zero
