"""The report of several runs: settings, results, curves, samples; Markdown, HTML and CSV in one folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from nextgpt_pl.errors import UserError
from nextgpt_pl.modality import GENERATED
from nextgpt_pl.reports.document import Document, Heading, Table
from nextgpt_pl.reports.figures import error_bars, group_curves
from nextgpt_pl.reports.groups import Group, choose_metrics, group_runs, seed_of, spread, summary
from nextgpt_pl.reports.runs import Run
from nextgpt_pl.reports.samples import caption_table, media_table
from nextgpt_pl.utils.escaping import spreadsheet_cell

_CURVES = ("train/loss", "train/loss_text", "train/token_accuracy", "train/signal_accuracy")


def write_report(runs: Sequence[Run], folder: Path, metrics: Sequence[str] = (), title: str = "Report") -> Path:
    """Write ``index.md``, ``index.html``, figures, media, ``groups.csv`` and ``runs.csv``.

    Args:
        runs: runs; unfinished ones are listed and ignored.
        folder: output folder.
        metrics: patterns of metrics; by default the main validation metrics.
        title: title of the page.

    Returns:
        The HTML page.

    Raises:
        UserError: no run is finished, or a pattern matches no metric.

    """
    finished = [run for run in runs if run.finished and run.final]
    if not finished:
        raise UserError(f"none of the {len(runs)} runs finished: there is nothing to report")
    groups = group_runs(finished)
    chosen = choose_metrics(groups, metrics)
    document = Document(title, folder)
    document.add(_opening(finished, groups), *_results(groups, chosen))
    _left_out(document, [run for run in runs if run not in finished])
    _figures(document, groups, chosen)
    _samples(document, groups)
    document.add(Heading("Runs"), _run_table(groups, chosen))
    speeds = list(dict.fromkeys(name for run in finished for name in run.speed))
    if speeds:
        rows = [[run.name, *(f"{run.speed[s]:.4g}" if s in run.speed else "-" for s in speeds)] for run in finished]
        document.add(Heading("Speed"), Table(["run", *speeds], rows), "Median of each training.")
    everything = choose_metrics(groups, ["*"])
    page = document.write()
    for name, frame in (("groups", summary(groups, everything)), ("runs", _frame(groups, everything))):
        frame.map(spreadsheet_cell).rename(columns=spreadsheet_cell).to_csv(folder / f"{name}.csv", index=False)
    return page


def _opening(runs: Sequence[Run], groups: Sequence[Group]) -> str:
    stages = ", ".join(sorted({run.stage for run in runs}))
    keys = list(groups[0].settings)
    differ = f"They differ in {', '.join(keys)}." if keys else "They differ in nothing but the seed."
    counts = f"{len(runs)} {'run' if len(runs) == 1 else 'runs'} of {stages} in {len(groups)} configurations"
    return f"{counts.replace('1 configurations', '1 configuration')}. {differ}"


def _results(groups: Sequence[Group], metrics: Sequence[str]) -> list[Heading | Table | str]:
    # with one key, its value is the label
    named = len(groups[0].settings) > 1
    header = [*(["configuration"] if named else []), *groups[0].settings, "runs", *metrics]
    rows: list[list[Any]] = []
    for group in groups:
        settings = ["-" if value is None else value for value in group.settings.values()]
        label = [group.label] if named else []
        rows.append([*label, *settings, len(group.runs), *(spread(group.values(metric)) for metric in metrics)])
    about = "Last value of each metric: mean over seeds, ± standard deviation (of a sample)."
    return [Heading("Results"), Table(header, rows), about]


def _left_out(document: Document, runs: Sequence[Run]) -> None:
    if runs:
        names = ", ".join(run.name for run in runs)
        document.add(f"Left out, since they did not finish: {names}.")


def _figures(document: Document, groups: Sequence[Group], metrics: Sequence[str]) -> None:
    if len(groups) > 1:
        document.draw(error_bars(groups, metrics), "results.png", "Mean and standard deviation; each run a dot.")
    logged = [name for name in (*_CURVES, *metrics) if any(len(group.curves(name)) > 1 for group in groups)]
    if logged:
        document.add(Heading("Curves"))
        document.draw(
            group_curves(groups, logged), "curves.png", "Mean over seeds; the band is one standard deviation."
        )


def _samples(document: Document, groups: Sequence[Group]) -> None:
    tables = [(f"{m} samples".capitalize(), media_table(document, groups, m)) for m in GENERATED]
    for title, table in (*tables, ("Captions", caption_table(groups))):
        if table is not None:
            document.add(Heading(title), table)


def _run_table(groups: Sequence[Group], metrics: Sequence[str]) -> Table:
    rows = []
    for group in groups:
        for run in group.runs:
            values = (f"{run.final[m]:.4g}" if m in run.final else "-" for m in metrics)
            rows.append([run.name, group.label, seed_of(run), *values])
    return Table(["run", "configuration", "seed", *metrics], rows)


def _frame(groups: Sequence[Group], metrics: Sequence[str]) -> pd.DataFrame:
    rows: list[dict[str, Any]] = []
    for group in groups:
        for run in group.runs:
            row = {"run": str(run.folder), **group.settings, "seed": seed_of(run)}
            rows.append({**row, **{metric: run.final.get(metric) for metric in metrics}})
    return pd.DataFrame(rows)
