"""GenEval (Ghosh et al., 2023, arXiv 2310.11513): objects, their number, colours and positions in images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nextgpt_pl.errors import UserError
from nextgpt_pl.evaluation.benchmarks.base import Benchmark
from nextgpt_pl.evaluation.benchmarks.judged_score import Grades, Values
from nextgpt_pl.evaluation.judges.base import YES, Inquiry
from nextgpt_pl.evaluation.records import Prediction
from nextgpt_pl.evaluation.tasks import Item
from nextgpt_pl.readers.values import text

_CLAUSE = ("class", "count")


class GenEval(Benchmark):
    """GenEval's ``evaluation_metadata.jsonl``: ``tag``, ``prompt``, ``include`` and ``exclude`` in each row.

    A reply is right if its first image satisfies all clauses. The score of a tag is the share of right images, the
    overall score is the mean over the tags (``summary_scores.py`` of github.com/djghosh13/geneval). The paper draws
    four images per prompt (``samples: 4``), and judges by an object detector, which none of the judges here is.
    """

    published_name = "GenEval"
    published_files = ("evaluation_metadata.jsonl",)

    def item(self, row: Mapping[str, Any], number: int, file: Path) -> Item:
        """A request for an image."""
        prompt, about = text(row, "prompt"), {"tag": text(row, "tag")}
        clauses = {key: _clauses(row, key) for key in ("include", "exclude")}
        if not clauses["include"]:
            raise UserError("include: at least one object is expected")
        return Item(f"{number:05}", self.ask(prompt), self.modalities, (prompt,), about={**about, **clauses})

    def inquiries(self, prediction: Prediction, images: Sequence[Path], source: Path | None) -> list[Inquiry]:
        """Whether the image satisfies the clauses."""
        about, prompt = prediction.about, prediction.references[0]
        facts = {key: about[key] for key in ("include", "exclude")}
        lines = [f"- {_words(clause)}" for clause in facts["include"]]
        lines += [f"- fewer than {clause['count']} of {clause['class']}" for clause in facts["exclude"]]
        if any("position" in clause for clause in facts["include"]):
            lines.append("- the objects lie as described")
        asked = f"Is this an image of {prompt!r}? All of this must be right:\n" + "\n".join(lines)
        return [Inquiry(asked, (YES,), tuple(images[:1]), prompt, facts)]

    def grades(self, about: Mapping[str, Any], values: Sequence[Values]) -> Grades:
        """Right or wrong, by tag."""
        return [(about["tag"], values[0]["yes"])]

    def overall(self, series: Sequence[str]) -> dict[str, dict[str, float]]:
        """The mean over the tags."""
        return {"overall": dict.fromkeys(series, 1 / len(series))}


def _clauses(row: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    given = row.get(key) or []
    if not isinstance(given, list):
        raise UserError(f"{key}={given!r:.60}: a list of clauses is expected")
    for clause in given:
        if not isinstance(clause, Mapping) or not all(name in clause for name in _CLAUSE):
            raise UserError(f"{key}: {clause!r:.60}: 'class' and 'count' are expected")
        if not isinstance(clause["count"], int) or clause["count"] < 1:
            raise UserError(f"{key}: count={clause['count']!r:.60}: a whole number above 0 is expected")
    for number, clause in enumerate(given):
        place = clause.get("position")
        right = isinstance(place, list) and len(place) == 2 and place[1] in range(number)
        if place is not None and not right:
            raise UserError(
                f"{key}: position={place!r:.60}: a relation and the number of an earlier clause are expected"
            )
    return [dict(clause) for clause in given]


def _words(clause: Mapping[str, Any]) -> str:
    colour = f" that are {clause['color']}" if clause.get("color") else ""
    return f"at least {clause['count']} of {clause['class']}{colour}"
