"""The tour's page: curves, captions, generated media, dialogues and the score table; its media are beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from markupsafe import Markup

from nextgpt_pl.evaluation.gallery import dialogues
from nextgpt_pl.modality import GENERATED
from nextgpt_pl.reports import Run
from nextgpt_pl.reports.document import Medium, html_blocks, html_page, html_table
from nextgpt_pl.reports.figures import run_curves
from nextgpt_pl.reports.samples import said
from nextgpt_pl.verbs.score import RESULTS, table_rows

_TITLES = {
    "enc_align": "Stage 1: encoder alignment",
    "dec_align": "Stage 2: decoder alignment",
    "instruct": "Stage 3: instruction tuning",
}
# columns of each stage's metrics.csv that are plotted
_CURVES = {
    "enc_align": ("train/loss", "val/loss", "val/CIDEr-D"),
    "dec_align": ("train/loss_text", *(f"val/relative_mse_{m}" for m in GENERATED)),
    "instruct": ("train/loss_text", *(f"val/relative_mse_{m}" for m in GENERATED)),
}


@dataclass
class Tour:
    """The results of a tour.

    Attributes:
        folder: folder of the page.
        runs: run folder per stage.
        seconds: duration of each step of the tour, in seconds.

    """

    folder: Path
    runs: dict[str, Path] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


def write_page(tour: Tour, record: Mapping[str, Any]) -> Path:
    """Write ``index.html`` and its pictures into the tour's folder.

    Args:
        tour: the runs and their durations.
        record: content of ``scores.json``.

    """
    sections = [_scores(tour, record), _times(tour)]
    for stage, folder in tour.runs.items():
        run = Run(folder)
        sections += [
            html_blocks().heading(_TITLES[stage]),
            _curves(tour, stage, run),
            _captions(run),
            _samples(tour, run),
        ]
    sections += [html_blocks().heading("Dialogues"), *dialogues(tour.runs["instruct"], tour.folder)]
    page = tour.folder / "index.html"
    page.write_text(html_page("nextgpt_pl tour", sections), encoding="utf-8")
    return page


def _scores(tour: Tour, record: Mapping[str, Any]) -> Markup:
    report = (tour.runs["instruct"] / RESULTS.parent / "report.html").resolve()
    folder, target = tour.folder.resolve(), ""
    if report.is_relative_to(folder):
        target = report.relative_to(folder).as_posix()
    about = html_blocks().linked("Held-out dialogues, scored by exact judges.", target, "More numbers, and samples.")
    table = html_table(("route", "measure", "result"), table_rows(record))
    return Markup().join([html_blocks().heading("Scores"), about, table])


def _times(tour: Tour) -> Markup:
    table = html_table(("part", "seconds"), [(n, f"{s:.0f}") for n, s in tour.seconds.items()])
    return Markup().join([html_blocks().heading("Time"), table])


def _curves(tour: Tour, stage: str, run: Run) -> Markup:
    run_curves(run, _CURVES[stage]).savefig(tour.folder / f"{stage}_curves.png", dpi=110)
    return html_blocks().picture(f"{stage}_curves.png", f"curves of {stage}")


def _captions(run: Run) -> Markup:
    rows = [(row["key"], row["caption"], row["reference"]) for row in said(run)[:12]]
    return html_table(("item", "the model's caption", "reference caption"), rows) if rows else Markup()


def _samples(tour: Tour, run: Run) -> Markup:
    return Markup().join(Medium(f, f"{f.stem}s").html(tour.folder) for m in GENERATED for f in run.samples(f"{m}.png"))
