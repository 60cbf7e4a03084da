"""Scores of benchmarks from the answers of one judge."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from nextgpt_pl.errors import UserError
from nextgpt_pl.evaluation import bootstrap
from nextgpt_pl.evaluation.bootstrap import Estimate
from nextgpt_pl.evaluation.judges import kept
from nextgpt_pl.evaluation.judges.base import Inquiry, Judge, Judgement
from nextgpt_pl.evaluation.judges.kept import Asked
from nextgpt_pl.evaluation.records import Prediction, reference_folder
from nextgpt_pl.evaluation.scores import SharedScore
from nextgpt_pl.evaluation.shared_work import SharedWork
from nextgpt_pl.modality import Modality
from nextgpt_pl.readers.files import inside

_BLOCK = 512  # questions between two writes of what was answered
Values = Mapping[str, float]
#: pairs of a series and a grade
Grades = Sequence[tuple[str, float]]


class Judged(ABC):
    """What judges are asked about replies, and how their answers are aggregated."""

    @abstractmethod
    def inquiries(self, prediction: Prediction, images: Sequence[Path], source: Path | None) -> list[Inquiry]:
        """What judges are asked about a reply.

        Args:
            prediction: the item with its reply.
            images: the reply's images.
            source: the reference image of the item, such as the image that was edited.

        """

    @abstractmethod
    def grades(self, about: Mapping[str, Any], values: Sequence[Values]) -> Grades:
        """The grades of one reply by series; a score is the mean of a series.

        Args:
            about: the item's ``about``.
            values: the judge's values per inquiry.

        """

    def overall(self, series: Sequence[str]) -> dict[str, dict[str, float]]:
        """Weights of series by name of a score, which is their weighted sum; by default there is none.

        Args:
            series: names of all series.

        """
        del series
        return {}


class _Question(NamedTuple):
    """A question about a reply; ``digest`` is empty if the reply lacks the part that the question is about."""

    inquiry: Inquiry
    digest: str


class JudgedScore(SharedScore):
    """The scores of a benchmark by one judge; each name ends with the judge's identity.

    Args:
        benchmark: what the judge is asked, and how its answers are aggregated.
        judge: the judge.

    """

    def __init__(self, benchmark: Judged, judge: Judge) -> None:
        self.benchmark, self.judge = benchmark, judge

    def compute(
        self, predictions: Sequence[Prediction], folder: Path, data: Path, work: SharedWork
    ) -> dict[str, Estimate]:
        """All series, the weighted sums of them, and the numbers of missing and of unparsable answers.

        Raises:
            UserError: the judge did not answer all questions. What it answered is kept for the next time.

        """
        identity = self.judge.identity
        questions = work.each(partial(self._questions, folder=folder, data=data), predictions)
        answers = self._answers(predictions, questions, folder, work)
        series: dict[str, list[float]] = {}
        missing = unparsable = 0
        for prediction, asked in zip(predictions, questions, strict=True):
            missing += any(not question.digest for question in asked)
            unparsable += sum(bool(q.digest) and answers[q.digest].values is None for q in asked)
            values = [_values(question, answers.get(question.digest)) for question in asked]
            for name, grade in self.benchmark.grades(prediction.about, values):
                series.setdefault(name, []).append(grade)
        arrays = {name: np.array(grades) for name, grades in series.items()}
        scores = {name: bootstrap.of_strata(arrays, w) for name, w in self.benchmark.overall([*arrays]).items()}
        scores |= dict(zip(arrays, bootstrap.of_means([*arrays.values()]), strict=True))
        counts = {"replies without an answer": missing, "unparsable judgements": unparsable}
        scores |= {name: Estimate(float(n), None, None, len(predictions)) for name, n in counts.items()}
        return {f"{name} [{identity}]": estimate for name, estimate in scores.items()}

    def _questions(self, prediction: Prediction, folder: Path, data: Path) -> list[_Question]:
        reference = prediction.reference
        source = None if reference is None else inside(reference_folder(reference, folder, data), reference["file"])
        media = [part for part in prediction.media if part["type"] == Modality.IMAGE.value]
        images = [inside(folder, str(part["file"])) for part in media]
        there = {"image": bool(images), "text": bool(prediction.text.strip())}
        there["anything"] = any(there.values())
        return [
            _Question(inquiry, inquiry.digest(self.judge.identity) if there[inquiry.needs] else "")
            for inquiry in self.benchmark.inquiries(prediction, images, source)
        ]

    def _answers(
        self, predictions: Sequence[Prediction], questions: Sequence[list[_Question]], folder: Path, work: SharedWork
    ) -> dict[str, Judgement]:
        """Judgements by the questions' digests; those that the folder does not have yet are asked for and kept."""
        known = work.once(partial(kept.read, folder))
        identity = self.judge.identity
        entries = {
            question.digest: Asked(prediction.task, prediction.key, identity, question.inquiry, question.digest)
            for prediction, own in zip(predictions, questions, strict=True)
            for question in own
            if question.digest and question.digest not in known
        }
        asked = list(entries.values())
        for start in range(0, len(asked), _BLOCK):
            block = asked[start : start + _BLOCK]
            judgements = work.split(self.judge.judge, [entry.inquiry for entry in block])
            pairs = list(zip(block, judgements, strict=True))
            # kept at once, since an interruption would lose answers that may have been paid for
            work.once(partial(kept.append, folder, [pair for pair in pairs if pair[1].failed is None]))
            failed = [judgement.failed for judgement in judgements if judgement.failed is not None]
            if failed:
                left = len(asked) - start - len(block) + len(failed)
                raise UserError(f"{identity}: {left} of {len(asked)} questions are not answered: {failed[0]}")
            known |= {entry.digest: judgement for entry, judgement in pairs}
        return known


def _values(question: _Question, judgement: Judgement | None) -> Values:
    """The judge's values; the lowest ones if there is no answer, or none that can be parsed."""
    if judgement is None or judgement.values is None:
        return {scale.name: scale.low for scale in question.inquiry.scales}
    return judgement.values
