"""Training loop of all pre-trainings: batches by step number, EMA, cosine decay, resumable checkpoints.

A batch is a function of seed and step only, so an interrupted run resumes exactly.
"""

from __future__ import annotations

import json
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import Callback, ModelCheckpoint, WeightAveraging
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn
from torch.utils.data import DataLoader, IterableDataset

from nextgpt_pl.training.progress import ResumingProgressBar
from nextgpt_pl.utils.quiet import quiet_loading

_CHECKPOINT_EVERY = 100  # steps
_LOG_EVERY = 50  # steps
RECORD = "trained.json"


class PretrainTask(LightningModule, ABC):
    """A network, its batches and its loss. ``steps`` is the number of training steps."""

    def __init__(self, *, steps: int, lr: float, seed: int = 0, warmup: int = 100, weight_decay: float = 0.01) -> None:
        super().__init__()
        self.steps, self.lr, self.seed, self.warmup, self.weight_decay = steps, lr, seed, warmup, weight_decay

    @abstractmethod
    def loss(self, rng: Random, generator: torch.Generator) -> Tensor:
        """The loss of one freshly drawn batch; all randomness comes from the two streams."""

    def training_step(self, batch: int, _batch_idx: int) -> Tensor:
        """Lightning's hook; ``batch`` is the step number."""
        loss = self.loss(Random(f"{self.seed}/{batch}"), torch.Generator().manual_seed(self.seed * 1_000_003 + batch))
        self.log("loss", loss, prog_bar=True)
        return loss

    def configure_optimizers(self) -> Any:
        """AdamW; linear warm-up, then cosine decay to 2% of the learning rate."""
        params = [p for p in self.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(params, lr=self.lr, weight_decay=self.weight_decay, betas=(0.9, 0.98))
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self._lr_factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _lr_factor(self, step: int) -> float:
        if step < self.warmup:
            return (step + 1) / self.warmup
        progress = min(1.0, (step - self.warmup) / max(1, self.steps - self.warmup))
        return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * progress))


class _StepNumbers(IterableDataset):
    """The numbers of the steps still to come."""

    def __init__(self, start: int, stop: int) -> None:
        self.start, self.stop = start, stop

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.start, self.stop))


class _Average(WeightAveraging):
    """EMA from step ``start`` on.

    It interpolates, so frozen weights stay equal bit by bit; Lightning's ``EMAWeightAveraging`` adds two products.
    """

    def __init__(self, decay: float, start: int) -> None:
        super().__init__(multi_avg_fn=get_ema_multi_avg_fn(decay))
        self.start = start

    def should_update(self, step_idx: int | None = None, epoch_idx: int | None = None) -> bool:
        """After every step but the first ones."""
        return step_idx is not None and step_idx >= self.start


class _Steps(Callback):
    """Prints the loss on separate lines at intervals, for log files."""

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        step = trainer.global_step
        if step % (4 * _LOG_EVERY) == 0:
            print(f"\n{type(pl_module).__name__}: step {step}, loss {float(outputs['loss']):.4f}", flush=True)


def train(task: PretrainTask, work: Path, *, ema_decay: float = 0.998) -> None:
    """Train ``task`` for ``task.steps`` steps; resumes from a checkpoint in ``work`` if there is one."""
    seed_everything(task.seed, verbose=False)
    work.mkdir(parents=True, exist_ok=True)
    name = type(task).__name__
    checkpoint = ModelCheckpoint(
        dirpath=work, filename=name, every_n_train_steps=_CHECKPOINT_EVERY, enable_version_counter=False
    )
    trainer = Trainer(
        max_steps=task.steps,
        accelerator="auto",
        devices=1,
        callbacks=[
            _Average(ema_decay, start=task.warmup),
            checkpoint,
            ResumingProgressBar(refresh_rate=10),
            _Steps(),
        ],
        logger=False,
        gradient_clip_val=1.0,
        enable_model_summary=False,
        log_every_n_steps=_LOG_EVERY,
        default_root_dir=work,
    )
    resume = work / f"{name}.ckpt"
    start = 0
    if resume.is_file():
        start = int(torch.load(resume, map_location="cpu", weights_only=True)["global_step"])
        print(f"{name}: continuing at step {start} of {task.steps} from {resume}")
    loader = DataLoader(_StepNumbers(start, task.steps), batch_size=None)
    if start < task.steps:
        started = time.perf_counter()
        try:
            trainer.fit(task, loader, ckpt_path=resume if start else None, weights_only=True)
        finally:  # also after an interruption
            _record(work / RECORD, name, trainer.global_step, time.perf_counter() - started)
        trainer.save_checkpoint(resume, weights_only=False)
    else:
        task.load_state_dict(torch.load(resume, map_location="cpu", weights_only=True)["state_dict"])
    task.eval()


def _record(file: Path, name: str, steps: int, seconds: float) -> None:
    """Add steps and seconds to the training record; the times of resumed trainings are summed."""
    record = json.loads(file.read_text()) if file.is_file() else {}
    previous_seconds = record.get(name, {}).get("seconds", 0.0)
    record[name] = {"steps": steps, "seconds": round(previous_seconds + seconds, 1)}
    file.write_text(json.dumps(record, indent=2) + "\n")


def save_half(model: Any, folder: Path) -> None:
    """Save a transformers model or a diffusers pipeline in half precision; the model is converted back to float32."""
    with quiet_loading():
        model.to(torch.float16).save_pretrained(folder, safe_serialization=True)
    model.to(torch.float32)
