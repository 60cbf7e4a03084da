"""Predictions of a batch of items: the model's replies, with their media written in threads."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from nextgpt_pl.errors import UserError
from nextgpt_pl.evaluation import records
from nextgpt_pl.evaluation.background import Background
from nextgpt_pl.evaluation.readable import fault
from nextgpt_pl.evaluation.records import Prediction
from nextgpt_pl.evaluation.tasks import Item, Task
from nextgpt_pl.pipeline import Reply

Numbered = tuple[int, Item]  # an item, and its number in the task


@dataclass(frozen=True)
class Asked:
    """How the items of a task are answered.

    Attributes:
        model: what the task asks.
        task: the task.
        folder: folder of the predictions.
        temperature: sampling temperature of the text.
        seed: seed of media and text.

    """

    model: Any
    task: Task
    folder: Path
    temperature: float
    seed: int


def answered(asked: Asked, batch: Sequence[Numbered], background: Background) -> list[Future[Prediction]]:
    """Predictions of a batch, whose media are written in the background; items with unreadable files get failed ones.

    Reference media are checked before the batch is answered, since all scores need them. The question's media are
    checked only if the model refuses the batch, to find the unreadable ones.

    Raises:
        UserError: the model refuses the batch for another reason.

    """
    task = asked.task
    predictions, remaining = _without_faults(task, batch, background, question=False)
    while remaining:
        try:
            replies = task.answer(asked.model, remaining, temperature=asked.temperature, seed=asked.seed)
        except UserError:
            failed, readable = _without_faults(task, remaining, background, question=True)
            if not failed:
                raise
            predictions, remaining = [*predictions, *failed], readable
            continue
        pairs = zip(remaining, replies, strict=True)
        return [*predictions, *(background.submit(_prediction, asked, item, reply) for item, reply in pairs)]
    return predictions


def _without_faults(
    task: Task, batch: Sequence[Numbered], background: Background, *, question: bool
) -> tuple[list[Future[Prediction]], list[Numbered]]:
    """Failed predictions for items whose files cannot be read, and the remaining items."""
    failed, readable = [], []
    reasons = background.read(partial(fault, question=question), [item for _, item in batch])
    for (number, item), reason in zip(batch, reasons, strict=True):
        if reason is None:
            readable.append((number, item))
        else:
            failed.append(Prediction(task.name, item.key, _prompt(item), [], failed=reason))
    return [background.submit(lambda p=prediction: p) for prediction in failed], readable


def _prompt(item: Item) -> list[dict[str, Any]]:
    content = item.messages[-1]["content"] if item.messages else ()
    return [{k: p[k] for k in ("type", "text") if k in p} for p in content]


def _prediction(asked: Asked, numbered: Numbered, reply: Reply) -> Prediction:
    """The prediction of an item; its media are written."""
    (number, item), task, folder = numbered, asked.task, asked.folder
    stem = f"{''.join(c if c.isalnum() else '_' for c in task.name)}/{number:05}"
    parts = [records.written(part, folder, f"{stem}_{i}") for i, part in enumerate(reply)]
    reference = records.written_reference(item.reference, task.data_root, folder, f"{stem}_reference")
    references, expected = list(item.references), list(item.expected)
    about = dict(item.about)
    return Prediction(task.name, item.key, _prompt(item), parts, references, reference, expected, about=about)
