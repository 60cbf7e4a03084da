"""Distributed evaluation: the ranks of a launch by torchrun or srun answer the items of tasks together."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from nextgpt_pl.errors import UserError
from nextgpt_pl.utils.distributed import all_gather_objects, broadcast_object, rank

T = TypeVar("T")
_TIMEOUT = timedelta(hours=12)  # of collectives, since generating a batch of videos takes long


@contextmanager
def joined() -> Iterator[str | None]:
    """Start a gloo process group of the launch's ranks and return this rank's device; a no-op for a single process."""
    environment = _environment()
    if environment is None:
        yield None
        return
    address = f"tcp://{environment.main_address}:{environment.main_port}"
    # torchrun already runs a store at that address
    method = "env://" if dist.is_torchelastic_launched() else address
    ranks = {"rank": environment.global_rank(), "world_size": environment.world_size()}
    dist.init_process_group("gloo", init_method=method, timeout=_TIMEOUT, **ranks)
    try:
        gpus = torch.cuda.device_count()
        device = f"cuda:{environment.local_rank() % gpus}" if gpus else None
        if device is not None:
            torch.cuda.set_device(device)  # what asks for "cuda", such as a feature extractor, gets this GPU
        yield device
    finally:
        dist.destroy_process_group()


def _environment() -> Any:
    """Lightning's cluster environment of the launch, if it has several processes."""
    from lightning.fabric.plugins.environments import SLURMEnvironment, TorchElasticEnvironment

    environment: Any = None
    if TorchElasticEnvironment.detect():
        environment = TorchElasticEnvironment()
    elif int(os.environ.get("SLURM_STEP_NUM_TASKS", "1")) > 1 and SLURMEnvironment.detect():
        environment = SLURMEnvironment()
    return environment if environment is not None and environment.world_size() > 1 else None


def by_first(function: Callable[[], None]) -> None:
    """Run a function on rank 0 only; its :class:`UserError` is raised on all ranks."""
    reason = None
    if rank() == 0:
        try:
            function()
        except UserError as error:
            reason = str(error)
    reason = broadcast_object(reason)
    if reason is not None:
        raise UserError(reason)


@dataclass(frozen=True)
class Failure:
    """An error of a rank.

    Attributes:
        text: its class and message.
        message: its message alone.
        is_value: whether it is a :class:`ValueError`.

    """

    text: str
    message: str
    is_value: bool


def attempted(function: Callable[[], list[T]]) -> tuple[list[T], list[Failure], Exception | None]:
    """The results of all ranks in order, the failures of those that failed, and this rank's own error. Collective."""
    results: list[T] = []
    own: Exception | None = None
    failure: Failure | None = None
    try:
        results = function()
    except Exception as error:  # the other ranks wait in a collective and must be told
        own, failure = error, Failure(f"{type(error).__name__}: {error}", str(error), isinstance(error, ValueError))
    everywhere = all_gather_objects((results, failure))
    failures = [failure for _, failure in everywhere if failure is not None]
    return [result for of_rank, _ in everywhere for result in of_rank], failures, own


def together(function: Callable[[], list[T]]) -> list[T]:
    """The results of all ranks, in order; if one rank fails, all raise."""
    results, failures, own = attempted(function)
    if own is not None:
        raise own
    if failures:
        raise UserError(f"another rank failed: {failures[0].text}")
    return results
