"""Speed of training: samples and tokens per second, model FLOPs utilization, waiting times, peak memory."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable
from typing import Any, cast

import torch
from lightning.fabric.utilities.throughput import get_available_flops
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities import rank_zero_info

from nextgpt_pl.batches import Batch

SAMPLES = "speed/samples_per_second"  # also in the progress bar


class Throughput(Callback):
    """Logs the speed of training with the other values of the training steps, under ``speed/``.

    ``samples_per_second`` and ``tokens_per_second`` are those of all ranks: this rank's times the number of ranks.
    Tokens are counted without padding. ``waiting`` is the share of time between steps, when the next batch is awaited
    (with ``num_workers: 0`` its media are read then), ``reading`` the share of the data-loader workers' time in which
    they read and render items, ``encoding`` that of the frozen encoder and text encoders. ``mfu`` is the model FLOPs
    utilization: the operations of :class:`~nextgpt_pl.sizing.operations.Operations` per second, relative to the
    device's peak. ``peak_memory_gb`` is the allocator's on a GPU, the process's on a CPU.

    All are averages since the last log entry. Validations and the first step of a training do not count.

    Args:
        count: returns the function that counts the operations of a batch; called once, at the start of the training.
            ``None``: no ``mfu``.

    """

    def __init__(self, count: Callable[[], Callable[[Batch], float]] | None = None) -> None:
        self.count = count
        self.operations: Callable[[Batch], float] | None = None
        self.peak = 0.0
        self._samples = self._tokens = 0
        self._operations = self._waiting = self._reading = 0.0
        self._begun: float | None = None  # start of the averaged time; None: no step has ended yet
        self._ended = self._paused = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count the operations, and find the device's peak."""
        self._begun = None
        cast(Any, pl_module).network.stopwatch.start()
        if self.count is None:
            return
        try:
            self.operations = self.count()
        except Exception as error:  # any error of the count must not fail the training
            rank_zero_info(f"operations are not counted, so there is no speed/mfu: {error}")
        self.count = None
        own = getattr(torch, cast(Any, pl_module).network.llm.dtype_name)
        dtype = torch.bfloat16 if "bf16" in str(trainer.precision) else own
        self.peak = peak_flops(pl_module.device, dtype)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Batch, batch_idx: int) -> None:
        """Lightning's hook."""
        if self._begun is not None:
            self._waiting += time.perf_counter() - self._ended

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Count the batch; log in the steps that the loggers write."""
        stage, now = cast(Any, pl_module), time.perf_counter()
        self._ended = now
        if self._begun is None:
            self._start(stage, now)
            return
        self._samples += len(batch)
        self._tokens += sum(batch.lengths())
        self._reading += batch.reading
        self._operations += self.operations(batch) if self.operations else 0.0
        if stage.logs_this_step():
            self._log(stage, trainer, now - self._begun)
            self._start(stage, time.perf_counter())

    def _start(self, stage: Any, now: float) -> None:
        stage.network.stopwatch.take()
        self._samples = self._tokens = 0
        self._operations = self._waiting = self._reading = 0.0
        self._begun = self._ended = now

    def _log(self, stage: Any, trainer: Trainer, seconds: float) -> None:
        ranks, workers = trainer.world_size, getattr(trainer.train_dataloader, "num_workers", 0)
        values = {
            SAMPLES: ranks * self._samples / seconds,
            "speed/tokens_per_second": ranks * self._tokens / seconds,
            "speed/waiting": self._waiting / seconds,
            "speed/reading": self._reading / seconds / max(1, workers),
            "speed/peak_memory_gb": _peak_memory(stage.device) / 1e9,
        }
        values |= {f"speed/{name}": taken / seconds for name, taken in stage.network.stopwatch.take().items()}
        if self.operations and self.peak:
            values["speed/mfu"] = self._operations / seconds / self.peak
        stage.log_dict(values)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Lightning's hook."""
        cast(Any, pl_module).network.stopwatch.stop()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Pause."""
        self._paused = time.perf_counter()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Continue."""
        if self._begun is not None:
            cast(Any, pl_module).network.stopwatch.take()
            lasted = time.perf_counter() - self._paused
            self._begun, self._ended = self._begun + lasted, self._ended + lasted


def peak_flops(device: torch.device, dtype: torch.dtype) -> float:
    """Operations per second that a device can do: of GPUs from a table, of others those of a large matrix product.

    Args:
        device: the device.
        dtype: dtype of the products.

    Returns:
        The number; 0 for a GPU that the table does not have.

    """
    if device.type == "cuda":
        return float(get_available_flops(device, dtype) or 0)
    size = 1024
    matrix = torch.ones(size, size, device=device, dtype=dtype)
    matrix @ matrix  # the first product is slower
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        matrix @ matrix
        seconds.append(time.perf_counter() - start)
    return 2.0 * size**3 / min(seconds)


def _peak_memory(device: torch.device) -> int:
    """Bytes."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
