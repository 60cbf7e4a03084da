"""The page of one run: final validation values, curves, and samples of the last validation."""

from __future__ import annotations

from pathlib import Path

from nextgpt_pl.modality import GENERATED
from nextgpt_pl.reports.document import Document, Heading, Table
from nextgpt_pl.reports.figures import run_curves
from nextgpt_pl.reports.groups import Group
from nextgpt_pl.reports.runs import Run
from nextgpt_pl.reports.samples import caption_table, media_table

_MOST_CURVES = 24
_MOST_SAMPLES = 8
_FIRST = ("train/loss", "val/loss")


def final_validation(run: Run) -> dict[str, float]:
    """The last value of each validation metric, the loss first."""
    values = {name: value for name, value in run.final.items() if name.startswith("val/")}
    return {name: values[name] for name in _ordered(values)}


def write_run_page(run: Run) -> Path | None:
    """Write ``index.html``, ``index.md`` and ``curves.png`` into the run's folder, from its metrics and samples.

    Returns:
        The HTML page; ``None`` if the run logged no metrics and left no samples.

    """
    document = Document(run.name, run.folder)
    values = final_validation(run)
    if values:
        rows = [(name, f"{value:.4g}") for name, value in values.items()]
        document.add(Heading("Final validation"), Table(("metric", "value"), rows))
    if run.speed:
        rows = [(name.replace("_", " "), f"{value:.4g}") for name, value in run.speed.items()]
        document.add(Heading("Speed"), Table(("median of the training", "value"), rows))
    logged = [name for name in _ordered(run.final) if name.startswith(("train/", "val/")) and len(run.curve(name)) > 1]
    if logged:
        document.add(Heading("Curves"))
        document.draw(run_curves(run, logged[:_MOST_CURVES]), "curves.png", "Training and validation metrics by step.")
    shown = [Group({}, "signal tokens", (run,))]
    for modality in GENERATED:
        media = media_table(document, shown, modality, _MOST_SAMPLES)
        if media is not None:
            document.add(Heading(f"{modality} samples".capitalize()), media)
    captions = caption_table([Group({}, "generated caption", (run,))])
    if captions is not None:
        document.add(Heading("Captions"), captions)
    return document.write() if document.blocks else None


def _ordered(names: dict[str, float]) -> list[str]:
    """Losses of training and validation, then all others by name."""
    return [*(name for name in _FIRST if name in names), *sorted(names.keys() - set(_FIRST))]
