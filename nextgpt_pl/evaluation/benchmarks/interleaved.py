"""Benchmarks of replies with text and images: UEval and MMIE."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nextgpt_pl.errors import UserError
from nextgpt_pl.evaluation.benchmarks.base import Benchmark
from nextgpt_pl.evaluation.benchmarks.judged_score import Grades, Values
from nextgpt_pl.evaluation.judges.base import YES, Inquiry, Scale
from nextgpt_pl.evaluation.records import Prediction
from nextgpt_pl.evaluation.tasks import Item
from nextgpt_pl.readers.files import inside
from nextgpt_pl.readers.values import text

_KINDS = ("text", "image")
_SCORE = Scale("score", 0, 6, "quality of the whole answer; 6 only for a right, clear and complete one")
#: what the answers of each category are about; the first name within an item's id is its category
_CATEGORIES = {
    "SA": "a story in text and images: language, images, how they fit together, consistency, and style",
    "PBL": "a method in text and images: language, images, how they fit together, usefulness, and style",
    "MSR": "a solution: whether text and images of the question are understood, each step, and the result",
}


class UEval(Benchmark):
    """UEval (Li et al., 2026, arXiv 2601.22155): files of the hub's data set ``primerL/UEval-all``.

    Columns: ``id``, ``prompt``, ``task_type``, ``question_type``, and lists ``text_rubrics`` and ``image_rubrics`` of
    objects with a ``criterion``. The text score of a reply is the share of text criteria that are met, the image score
    that of image criteria, and the overall score is the mean of both. Scores are means over the task types, each of
    which is a mean over its replies.
    """

    published_name = "UEval"
    published_files = ("data/test-*.parquet",)

    def item(self, row: Mapping[str, Any], number: int, file: Path) -> Item:
        """A request for text and images."""
        prompt = text(row, "prompt")
        about = {"type": text(row, "task_type"), "open": text(row, "question_type") == "open"}
        rubrics = {kind: [text(part, "criterion") for part in _parts(row, f"{kind}_rubrics")] for kind in _KINDS}
        if not any(rubrics.values()):
            raise UserError("text_rubrics and image_rubrics: at least one criterion is expected")
        return Item(text(row, "id"), self.ask(prompt), self.modalities, (prompt,), about={**about, **rubrics})

    def inquiries(self, prediction: Prediction, images: Sequence[Path], source: Path | None) -> list[Inquiry]:
        """Each criterion."""
        about, question = prediction.about, f"A question was: {prediction.references[0]}"
        said = f"{question}\nThe text of the answer is: {prediction.text}"
        with_images = f"{said if about['open'] else question}\nThe answer has the images that you see."
        asked = "\nDoes the answer meet this criterion completely? {}"
        return [
            *(Inquiry(said + asked.format(c), (YES,), (), c, needs="text") for c in about["text"]),
            *(Inquiry(with_images + asked.format(c), (YES,), tuple(images), c) for c in about["image"]),
        ]

    def grades(self, about: Mapping[str, Any], values: Sequence[Values]) -> Grades:
        """Text, image and overall score by task type."""
        met = [value["yes"] for value in values]
        parts = {"text": met[: len(about["text"])], "image": met[len(about["text"]) :]}
        shares = {kind: sum(part) / len(part) for kind, part in parts.items() if part}
        whole = sum(shares.values()) / len(shares)
        return [(f"{about['type']}, {kind}", share) for kind, share in {**shares, "overall": whole}.items()]

    def overall(self, series: Sequence[str]) -> dict[str, dict[str, float]]:
        """Per kind of score, the mean over the task types."""
        whole: dict[str, list[str]] = {}
        for name in series:
            whole.setdefault(name.rsplit(", ", 1)[1], []).append(name)
        return {kind: dict.fromkeys(parts, 1 / len(parts)) for kind, parts in whole.items()}


class Mmie(Benchmark):
    """MMIE (Xia et al., 2024, arXiv 2410.10139): ``data.json`` in the format of its evaluation, and ``images/``.

    A row has ``id``, and lists ``question`` and ``gt_answer`` of objects with ``text`` and ``image`` (a path or null).
    An answer gets a number of 0 to 6; the scores are the mean over all answers and by category: SA, PBL or MSR, which
    is within the ``id`` (``main.py`` of github.com/Lillianwei-h/MMIE, which leaves answers without a number out).
    """

    published_name = "MMIE"
    published_files = ("data.json",)
    modalities = None
    image_folder = "images"

    def item(self, row: Mapping[str, Any], number: int, file: Path) -> Item:
        """The question as one message of texts and images."""
        identity = text(row, "id")
        category = next((name for name in _CATEGORIES if name in identity), None)
        if category is None:
            raise UserError(f"id={identity!r:.60}: one of {', '.join(_CATEGORIES)} is expected in it")
        content, question = list[dict[str, Any]](), list[dict[str, str]]()
        for part in _parts(row, "question"):
            if part.get("text"):
                content.append({"type": "text", "text": text(part, "text")})
                question.append({"text": text(part, "text")})
            if part.get("image"):
                image = self.image(text(part, "image"), file)
                content.append({"type": "image", "image": image})
                question.append({"image": str(Path(str(image.source)).relative_to(self.root))})
        if not content:
            raise UserError("question: at least one text or image is expected")
        right = " ".join(text(part, "text") for part in _parts(row, "gt_answer") if part.get("text"))
        about = {"category": category, "question": question, "answer": right}
        messages = [{"role": "user", "content": content}]
        return Item(identity, messages, self.modalities, (right,) if right else (), about=about)

    def inquiries(self, prediction: Prediction, images: Sequence[Path], source: Path | None) -> list[Inquiry]:
        """One number for the answer, which is shown behind the question."""
        about = prediction.about
        shown = [inside(self.root, part["image"]) for part in about["question"] if "image" in part]
        asked = " ".join(part.get("text", "<image>") for part in about["question"])
        marks = (part["text"] if part["type"] == "text" else f"<{part['type']}>" for part in prediction.reply)
        lines = [f"The question: {asked}", f"The answer: {' '.join(marks)}", "The images come in this order."]
        if about["category"] == "MSR":
            lines.append(f"The right answer: {about['answer']}")
        lines.append(f"Grade the answer as {_CATEGORIES[about['category']]}.")
        return [Inquiry("\n".join(lines), (_SCORE,), (*shown, *images), about["answer"], needs="anything")]

    def grades(self, about: Mapping[str, Any], values: Sequence[Values]) -> Grades:
        """The number, for all answers and by category."""
        return [("overall", values[0]["score"]), (about["category"], values[0]["score"])]


def _parts(row: Mapping[str, Any], key: str) -> Sequence[Mapping[str, Any]]:
    parts = row.get(key) or []
    if not isinstance(parts, list) or not all(isinstance(part, Mapping) for part in parts):
        raise UserError(f"{key}={parts!r:.60}: a list of objects is expected")
    return parts
