"""DPG-Bench (Hu et al., 2024, ELLA, arXiv 2403.05135): long prompts, and yes-or-no questions that depend on others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from nextgpt_pl.errors import UserError
from nextgpt_pl.evaluation.benchmarks.base import Benchmark
from nextgpt_pl.evaluation.benchmarks.judged_score import Grades, Values
from nextgpt_pl.evaluation.judges.base import YES, Inquiry
from nextgpt_pl.evaluation.records import Prediction
from nextgpt_pl.evaluation.tasks import Item
from nextgpt_pl.readers.files import inside
from nextgpt_pl.readers.formats import rows_of
from nextgpt_pl.readers.values import text


class DpgBench(Benchmark):
    """DPG-Bench's ``dpg_bench.csv`` and ``prompts/ITEM_ID.txt``.

    A row of the table is a question: ``item_id``, ``proposition_id``, ``dependency`` (numbers of questions of the same
    item, or 0), ``tuple``, ``question_natural_language``, and ``text``, the prompt, which is used where the item has no
    file. A question counts as no if one that it depends on does. The score of an image is the share of questions that
    are answered by yes, and that of the benchmark is 100 x the mean over the images. Categories are those of the
    tuples; their scores take the answers as they are, without dependencies. So does ``compute_dpg_bench.py`` of
    github.com/TencentQQGYLab/ELLA, for grids of four images; it skips the table's first row, which is counted here.
    """

    published_name = "DPG-Bench"
    published_files = ("dpg_bench.csv",)

    def rows(self) -> Iterator[tuple[Path, int, Any]]:
        """One row per item: its first row, and all questions."""
        for file in self._paths():
            items: dict[str, dict[str, Any]] = {}
            for number, row in enumerate(rows_of(file)):
                try:
                    if isinstance(row, UserError):
                        raise row
                    item = items.setdefault(text(row, "item_id"), {"row": row, "number": number, "questions": []})
                    item["questions"].append(_question(row))
                except UserError as error:
                    yield file, number, error
            yield from (
                (file, item["number"], {**item["row"], "questions": item["questions"]}) for item in items.values()
            )

    def item(self, row: Mapping[str, Any], number: int, file: Path) -> Item:
        """A request for an image."""
        identity, questions = text(row, "item_id"), row["questions"]
        known = {question["number"] for question in questions}
        for question in questions:
            if unknown := [parent for parent in question["parents"] if parent not in known]:
                raise UserError(
                    f"{identity}: question {question['number']} depends on {unknown[0]}, which is not there"
                )
        written = inside(self.root, f"prompts/{identity}.txt")
        prompt = written.read_text(encoding="utf-8").strip() if written.is_file() else text(row, "text").strip()
        return Item(identity, self.ask(prompt), self.modalities, (prompt,), about={"questions": questions})

    def inquiries(self, prediction: Prediction, images: Sequence[Path], source: Path | None) -> list[Inquiry]:
        """The questions of the item."""
        return [
            Inquiry(q["question"], (YES,), tuple(images[:1]), q["question"], {"tuple": q["tuple"]})
            for q in prediction.about["questions"]
        ]

    def grades(self, about: Mapping[str, Any], values: Sequence[Values]) -> Grades:
        """The image's score, and the answers by category of both levels."""
        questions = about["questions"]
        own = {q["number"]: value["yes"] for q, value in zip(questions, values, strict=True)}
        grades = []
        for question in questions:
            category = question["tuple"].split("(")[0].strip()
            names = dict.fromkeys((category.split("-")[0].strip(), category))
            grades += [(name, 100 * own[question["number"]]) for name in names]
        counted = dict(own)
        for question in questions:
            if any(counted[parent] == 0 for parent in question["parents"]):
                counted[question["number"]] = 0.0
        return [("DPG-Bench score", 100 * sum(counted.values()) / len(counted)), *grades]


def _question(row: Mapping[str, Any]) -> dict[str, Any]:
    try:
        number = int(text(row, "proposition_id"))
        parents = [int(part) for part in text(row, "dependency").split(",")]
    except ValueError as error:
        raise UserError(f"proposition_id and dependency: whole numbers are expected ({error})") from error
    question, proposition = text(row, "question_natural_language"), text(row, "tuple")
    return {"number": number, "parents": [p for p in parents if p], "tuple": proposition, "question": question}
