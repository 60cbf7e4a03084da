"""Evaluation tasks at each validation of a training run."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities import rank_zero_warn

from nextgpt_pl.errors import UserError
from nextgpt_pl.evaluation.run import check_names, predict, score
from nextgpt_pl.evaluation.tasks import Task
from nextgpt_pl.pipeline import AnyToAny
from nextgpt_pl.stages.agreement import act_on_signals
from nextgpt_pl.stages.base import Stage
from nextgpt_pl.utils.distributed import broadcast_object


class ValidationTasks(Callback):
    """Answer tasks at each validation, as ``test`` does, and log their scores; for ``trainer.callbacks``.

    Predictions are written to ``validation/step_N`` of the run's folder. A score is logged as ``val/TASK/SCORE``; a
    score that cannot be computed causes a warning. All ranks answer all items, since the ranks of a sharded network
    must run the same steps; only rank 0's predictions are kept.

    Args:
        tasks: tasks as in ``experiments/eval/``, each with a small ``count``.
        seed: seed of the generated media.

    """

    def __init__(self, tasks: Sequence[Task], seed: int = 0) -> None:
        check_names(tasks)
        for task in tasks:
            if task.count is None:
                raise UserError(
                    f"trainer.callbacks: task {task.name!r} needs a count, or each validation answers all its items"
                )
            missing = task.missing()
            if missing:
                raise UserError(f"trainer.callbacks: task {task.name!r}: {'; '.join(missing)}")
        self.tasks, self.seed = list(tasks), seed

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Lightning's hook."""
        if trainer.sanity_checking:
            return
        if not isinstance(pl_module, Stage):
            raise UserError(f"ValidationTasks: {type(pl_module).__name__} is not a stage of nextgpt_pl")
        folder = Path(trainer.default_root_dir) / "validation" / f"step_{trainer.global_step:06d}"
        kept = nullcontext(str(folder)) if trainer.is_global_zero else tempfile.TemporaryDirectory()
        with kept as name:
            path = Path(name)
            shutil.rmtree(path, ignore_errors=True)  # an earlier run was interrupted at this step
            path.mkdir(parents=True)
            model = AnyToAny(pl_module.network, pl_module.device, placed=True)
            for task in self.tasks:
                pl_module.gather_parameters()
                self._answer(model, path, task)
                act_on_signals(trainer, pl_module)  # a task may take longer than the scheduler's grace period
            record = score(self.tasks, path)
        # equal values on all ranks, so that callbacks such as early stopping decide equally
        pl_module.log_dict(broadcast_object(self._values(record)))

    def _answer(self, model: AnyToAny, folder: Path, task: Task) -> None:
        predict(model, [task], folder, temperature=0.0, seed=self.seed)

    @staticmethod
    def _values(record: dict[str, Any]) -> dict[str, float]:
        values = {}
        for task, result in record["tasks"].items():
            if not result["items"]:
                rank_zero_warn(
                    f"validation task {task!r} has no item to score: {result['remarks'] or result['skipped']}"
                )
            for key, reason in result["skipped"].items():
                rank_zero_warn(f"validation task {task!r}: {key} is skipped: {reason}")
            if result["constant"]:
                rank_zero_warn(f"validation task {task!r}: {result['constant']} media are constant (all values equal)")
            for score_name, reason in result["failed"].items():
                rank_zero_warn(f"validation task {task!r}: no {score_name}: {reason}")
            for name, estimate in result["scores"].items():
                values[f"val/{task}/{name}".replace(" ", "_")] = float(estimate["value"])
        return values
