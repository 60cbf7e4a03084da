"""Judgements on disk: one JSON object per line beside the predictions, so that no question is asked twice."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nextgpt_pl.errors import UserError
from nextgpt_pl.evaluation.judges.base import Inquiry, Judgement
from nextgpt_pl.utils.atomic import drop_truncated_line

FILE = "judgements.jsonl"


@dataclass(frozen=True)
class Asked:
    """A question with what identifies it.

    Attributes:
        task: name of the task.
        key: key of the item.
        judge: identity of the judge.
        inquiry: the question.
        digest: its hash.

    """

    task: str
    key: str
    judge: str
    inquiry: Inquiry
    digest: str


def read(folder: Path) -> dict[str, Judgement]:
    """The parsed judgements of a folder, by the question's hash; others are asked for again.

    Raises:
        UserError: a line is none; the message names it.

    """
    file = folder / FILE
    known: dict[str, Judgement] = {}
    if not file.is_file():
        return known
    drop_truncated_line(file)
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            record = json.loads(line)
            if record["values"] is not None:
                values = {str(name): float(value) for name, value in record["values"].items()}
                known[str(record["digest"])] = Judgement(values, str(record["raw"]))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{file}: line {number} is no judgement ({error})") from error
    return known


def append(folder: Path, judged: Iterable[tuple[Asked, Judgement]]) -> None:
    """Append judgements, also those that cannot be parsed."""
    with (folder / FILE).open("a", encoding="utf-8") as file:
        for asked, judgement in judged:
            file.write(json.dumps(_record(asked, judgement)) + "\n")


def _record(asked: Asked, judgement: Judgement) -> dict[str, Any]:
    about = {"task": asked.task, "key": asked.key, "judge": asked.judge, "asked": asked.inquiry.text}
    values = None if judgement.values is None else dict(judgement.values)
    return {**about, "values": values, "raw": judgement.raw, "digest": asked.digest}
