"""The report of an evaluation: scores, reference scores and samples, as Markdown and HTML."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from nextgpt_pl.errors import UserError
from nextgpt_pl.evaluation import records
from nextgpt_pl.evaluation.bootstrap import Estimate
from nextgpt_pl.evaluation.records import Prediction
from nextgpt_pl.media.reading import array_of
from nextgpt_pl.media.writing import save_video
from nextgpt_pl.modality import Modality
from nextgpt_pl.readers.files import inside
from nextgpt_pl.reports.document import Document, Heading, Medium, Table

_HEADER = ("task", "score", "ours", "95% interval", "reference", "difference", "items")
_SAMPLES = 4  # samples per task


def rows(record: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """One row per score, as text; for scores that could not be computed, the reason."""
    table_rows: list[tuple[str, ...]] = []
    for task, result in record["tasks"].items():
        for name, value in result["scores"].items():
            ours = Estimate(**value)
            interval = "" if ours.low is None else f"{ours.low:.4g} to {ours.high:.4g}"
            paper = result["paper"].get(name)
            theirs = ("", "") if paper is None else (f"{paper:g}", f"{ours.value - paper:+.4g}")
            table_rows.append((task, name, f"{ours.value:.4g}", interval, *theirs, str(ours.count)))
        table_rows += [(task, name, "not computed", why, "", "", "") for name, why in result["failed"].items()]
        if result.get("constant"):
            what = "constant media (black pictures, silence)"
            table_rows.append((task, "constant media", str(result["constant"]), what, "", "", str(result["items"])))
        skipped = result.get("skipped", {})
        if skipped:
            key, why = next(iter(skipped.items()))
            table_rows.append((task, "items skipped", str(len(skipped)), f"such as {key}: {why}", "", "", ""))
        if not result.get("items") and not skipped:
            table_rows.append((task, "items", "0", "the data have nothing to ask about", "", "", ""))
        table_rows += [(task, "rows", str(n), text, "", "", "") for text, n in result.get("remarks", {}).items()]
    return table_rows


def write(record: Mapping[str, Any], settings: Mapping[str, Any], folder: Path) -> Path:
    """Write ``report.md`` and ``report.html``, and return the latter; videos are GIFs in ``report/``."""
    document = Document("Evaluation", folder)
    document.add(Table(("setting", "value"), list(settings.items())), Heading("Scores"), Table(_HEADER, rows(record)))
    predictions = records.read(folder)
    for task in record["tasks"]:
        own = [p for p in predictions if p.task == task and p.failed is None][:_SAMPLES]
        if not own:
            continue
        header = ("asked", *("reply" for _ in range(max(len(p.reply) for p in own))), "right")
        document.add(Heading(task), Table(header, [_cells(p, len(header) - 2, folder) for p in own]))
    return document.write("report")


def _cells(prediction: Prediction, parts: int, folder: Path) -> list[Any]:
    shown = [*_parts(prediction, folder)]
    right = prediction.references[0] if prediction.references else ""
    return [prediction.asked, *shown, *[""] * (parts - len(shown)), right]


def _parts(prediction: Prediction, folder: Path) -> Iterator[str | Medium]:
    """Texts and media; a medium that cannot be shown is the reason why."""
    for part in prediction.reply:
        try:
            yield part["text"] if part["type"] == "text" else _medium(part, folder)
        except UserError as error:
            yield f"({error})"


def _medium(part: Mapping[str, Any], folder: Path) -> Medium:
    """A medium in a format of browsers, which do not support FFV1."""
    path = inside(folder, str(part["file"]))
    if part["type"] == Modality.VIDEO.value:
        frames, rate = array_of(records.as_media(folder, part))
        path = inside(folder, f"report/{path.parent.name}_{path.stem}.gif")
        path.parent.mkdir(exist_ok=True)
        save_video(frames, path, rate or 1.0)
    return Medium(path)
