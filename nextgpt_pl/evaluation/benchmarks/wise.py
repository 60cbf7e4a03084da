"""WISE (Niu et al., 2025, arXiv 2503.07265): images of what a prompt implies by knowledge of the world."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nextgpt_pl.errors import UserError
from nextgpt_pl.evaluation.benchmarks.base import Benchmark
from nextgpt_pl.evaluation.benchmarks.judged_score import Grades, Values
from nextgpt_pl.evaluation.judges.base import Inquiry, Scale
from nextgpt_pl.evaluation.records import Prediction
from nextgpt_pl.evaluation.tasks import Item
from nextgpt_pl.readers.values import text

#: last ``prompt_id`` of each category, and its weight in the overall score
CATEGORIES: dict[str, tuple[int, float]] = {
    "culture": (400, 0.4),
    "time": (567, 0.167),
    "space": (700, 0.133),
    "biology": (800, 0.1),
    "physics": (900, 0.1),
    "chemistry": (1000, 0.1),
}
#: weight of each scale in WiScore
_WEIGHTS = {"consistency": 0.7, "realism": 0.2, "aesthetic quality": 0.1}
_SCALES = (
    Scale("consistency", 0, 2, "how completely the image shows what the prompt means; 2 only without any deviation"),
    Scale("realism", 0, 2, "how believable the image is: physics, materials, space; 2 only for a photograph's realism"),
    Scale("aesthetic quality", 0, 2, "composition, colours and style of the image; 2 only for exceptional ones"),
)


class Wise(Benchmark):
    """WISE's three files of ``prompt_id``, ``Prompt`` and ``Explanation``.

    WiScore is ``(0.7 consistency + 0.2 realism + 0.1 aesthetic quality) / 2``, from numbers of 0 to 2. The score of a
    category is its mean, and the overall score is the weighted sum over the categories, if all six have replies (README
    and ``wise_*.py`` of github.com/PKU-YuanGroup/WISE).
    """

    published_name = "WISE"
    published_files = ("cultural_common_sense.json", "spatio-temporal_reasoning.json", "natural_science.json")

    def item(self, row: Mapping[str, Any], number: int, file: Path) -> Item:
        """A request for an image."""
        prompt, explanation, identity = text(row, "Prompt"), text(row, "Explanation"), row.get("prompt_id")
        if not isinstance(identity, int) or not 1 <= identity <= 1000:
            raise UserError(f"prompt_id={identity!r:.60}: a whole number from 1 to 1000 is expected")
        category = next(name for name, (last, _) in CATEGORIES.items() if identity <= last)
        about = {"category": category, "explanation": explanation}
        return Item(f"{identity:04}", self.ask(prompt), self.modalities, (prompt,), about=about)

    def inquiries(self, prediction: Prediction, images: Sequence[Path], source: Path | None) -> list[Inquiry]:
        """The three numbers of an image."""
        prompt, explanation = prediction.references[0], prediction.about["explanation"]
        asked = (
            f"The image was made for the prompt: {prompt}\nThe prompt means: {explanation}\nGrade the image strictly."
        )
        return [Inquiry(asked, _SCALES, tuple(images[:1]), explanation)]

    def grades(self, about: Mapping[str, Any], values: Sequence[Values]) -> Grades:
        """WiScore by category."""
        return [(about["category"], sum(weight * values[0][name] for name, weight in _WEIGHTS.items()) / 2)]

    def overall(self, series: Sequence[str]) -> dict[str, dict[str, float]]:
        """The weighted sum over all six categories."""
        whole = set(series) == set(CATEGORIES)
        return {"overall": {name: weight for name, (_, weight) in CATEGORIES.items()}} if whole else {}
