"""The two steps of evaluation: :func:`predict` writes a model's replies, :func:`score` computes scores from them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from nextgpt_pl.errors import UserError
from nextgpt_pl.evaluation import records
from nextgpt_pl.evaluation.answers import Asked, Numbered, answered
from nextgpt_pl.evaluation.background import Background
from nextgpt_pl.evaluation.bootstrap import Estimate
from nextgpt_pl.evaluation.origins import origins
from nextgpt_pl.evaluation.records import Prediction
from nextgpt_pl.evaluation.scores import SharedScore
from nextgpt_pl.evaluation.shared_work import SharedWork
from nextgpt_pl.evaluation.shares import together
from nextgpt_pl.evaluation.tasks import Item, Remark, Task
from nextgpt_pl.utils.atomic import delete_abandoned, drop_truncated_line, write_atomic
from nextgpt_pl.utils.distributed import all_gather_objects, rank, world_size

SCORES = "scores.json"
_BATCH = 25


def check_names(tasks: Sequence[Task]) -> None:
    """Raise a :class:`UserError` if two tasks have the same name, since their predictions would mix."""
    names = [task.name for task in tasks]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"tasks: two are called {name!r}; give one of them another name")


def present(tasks: Sequence[Task]) -> tuple[list[Task], dict[str, list[str]]]:
    """Tasks with complete data, and the missing files of the others. Collective."""
    # a task is skipped if any rank lacks its data, since all ranks must take the same steps
    everywhere = all_gather_objects({task.name: task.missing() for task in tasks})
    missing = {t.name: list(dict.fromkeys(file for of_rank in everywhere for file in of_rank[t.name])) for t in tasks}
    return [t for t in tasks if not missing[t.name]], {name: files for name, files in missing.items() if files}


def predict(
    model: Any, tasks: Sequence[Task], folder: Path, *, temperature: float, seed: int, shared: bool = False
) -> None:
    """Write a prediction for each item of each task that ``folder`` does not have yet.

    An item's media depend only on its index and ``seed``; at temperature 0 so does its text. An interrupted run can
    therefore be continued with the same result. An item whose files cannot be read is written as failed, and is tried
    again by the next run.

    Media and predictions are written in threads. In one process this goes on while the next batch is answered.

    Args:
        model: what the tasks ask, an :class:`~nextgpt_pl.pipeline.AnyToAny` unless they say otherwise.
        tasks: tasks to answer.
        folder: folder of the predictions, on a file system that all ranks share.
        temperature: sampling temperature of the text.
        seed: seed of media and text.
        shared: split the items over all ranks. Each rank writes its media, rank 0 writes the predictions.

    """
    alone = not shared or world_size() == 1
    first = alone or rank() == 0
    begin: Callable[[], list[Prediction]] = partial(_begin, folder) if first else list
    before = begin() if alone else together(begin)
    known = {(p.task, p.key) for p in before if p.failed is None}
    count, own = (1, 0) if alone else (world_size(), rank())
    with _recording(folder, before, first) as write, Background(write) as background:
        for task in tasks:
            all_items, remarks = items_of(task)
            if first:
                records.write_remarks(folder, task.name, remarks)
            items = [(n, item) for n, item in all_items if (task.name, item.key) not in known]
            bar = tqdm(total=len(items), desc=task.name, disable=not first)
            batches = _batches(items)
            asked = Asked(model, task, folder, temperature, seed)
            for start in range(0, len(batches), count):
                # items alternate between ranks, so that predictions have the order of a run with one process
                mine = [item for batch in batches[start : start + count][own : own + 1] for item in batch]
                if alone:
                    background.record(answered(asked, mine, background))
                else:
                    for prediction in together(partial(_written, asked, mine, background)):
                        write(prediction)
                bar.update(sum(map(len, batches[start : start + count])))
            bar.close()


def _written(asked: Asked, batch: Sequence[Numbered], background: Background) -> list[Prediction]:
    """Predictions of a batch, with their media written."""
    return [prediction.result() for prediction in answered(asked, batch, background)]


@contextmanager
def _recording(folder: Path, before: Sequence[Prediction], first: bool) -> Iterator[Callable[[Prediction], None]]:
    """A function that appends a prediction to the file, unless it fails as before; rank 0 writes."""
    failed = {(p.task, p.key): p.failed for p in before}

    with (folder / records.FILE).open("a", encoding="utf-8") if first else nullcontext() as file:

        def write(prediction: Prediction) -> None:
            again = failed.get((prediction.task, prediction.key))
            if file is not None and (prediction.failed is None or prediction.failed != again):
                records.write_line(prediction, file)

        yield write


def _begin(folder: Path) -> list[Prediction]:
    """Existing predictions of ``folder``; files of an interrupted run are removed."""
    delete_abandoned(folder)
    drop_truncated_line(folder / records.FILE)
    return records.read(folder) if (folder / records.FILE).is_file() else []


def items_of(task: Task) -> tuple[list[tuple[int, Item]], Counter[str]]:
    """The items of a task with their numbers, at most ``count``, and the number of rows of each remark.

    Of items with the same key, all but the first get their number behind it.
    """
    items: list[tuple[int, Item]] = []
    remarks, keys = Counter[str](), set[str]()
    for found in task.items():
        if isinstance(found, Remark):
            remarks[found.text] += 1
            continue
        if task.count is not None and len(items) >= task.count:
            break
        item = replace(found, key=f"{found.key} ({len(items)})") if found.key in keys else found
        keys.add(item.key)
        items.append((len(items), item))
    return items, remarks


def _batches(items: list[tuple[int, Item]]) -> list[list[tuple[int, Item]]]:
    """Batches of up to 25 consecutive items with the same modalities."""
    batches: list[list[tuple[int, Item]]] = []
    for entry in items:
        last = batches[-1] if batches else []
        if last and len(last) < _BATCH and last[0][1].modalities == entry[1].modalities:
            last.append(entry)
        else:
            batches.append([entry])
    return batches


def score(tasks: Sequence[Task], folder: Path, *, shared: bool = False) -> dict[str, Any]:
    """Compute all scores of all tasks with predictions in ``folder``, and write them to ``scores.json``.

    A score that cannot be computed is listed with its reason; items that no score includes are listed too.

    Args:
        tasks: tasks to score.
        folder: folder of the predictions, on a file system that all ranks share.
        shared: split the work over all ranks, and write on rank 0. The scores are those of one process.

    Returns:
        The content of ``scores.json``.

    """
    work = SharedWork(shared=shared)
    predictions, remarks = work.once(lambda: (records.read(folder), records.read_remarks(folder)))
    results: dict[str, Any] = {}
    for task in tasks:
        own = [p for p in predictions if p.task == task.name and p.failed is None]
        skipped = {p.key: p.failed for p in predictions if p.task == task.name and p.failed is not None}
        if not own and not skipped and task.name not in remarks:
            continue
        numbers, failed = _estimates(task, own, folder, work)
        results[task.name] = {
            "items": len(own),
            "scores": {name: vars(value) for name, value in numbers.items()},
            "failed": failed,
            "skipped": skipped,
            "remarks": remarks.get(task.name, {}),
            "origins": origins(own),
            "constant": sum(bool(medium.get("constant")) for p in own for medium in p.media),
            "paper": task.paper,
        }
    unknown = sorted({p.task for p in predictions} - {t.name for t in tasks})
    record = {"tasks": results, "unscored": unknown}
    if not work.shared or rank() == 0:
        write_atomic(folder / SCORES, json.dumps(record, indent=2) + "\n")
    return record


def _estimates(
    task: Task, predictions: list[Prediction], folder: Path, work: SharedWork
) -> tuple[dict[str, Estimate], dict[str, str]]:
    """The scores of a task by name, and why others could not be computed, by class."""
    numbers, failed = dict[str, Estimate](), dict[str, str]()
    work.forget()
    for part in task.scores if predictions else ():
        arguments = predictions, folder, task.data_root or folder
        try:
            if isinstance(part, SharedScore):
                numbers |= part.compute(*arguments, work)
            else:
                numbers |= work.once(partial(part, *arguments))
        except ValueError as error:  # an error of one score must not prevent the others
            failed[type(part).__name__] = str(error)
    return numbers, failed
