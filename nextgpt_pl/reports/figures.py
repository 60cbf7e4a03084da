"""Figures of runs and groups: curves, and final values with error bars. They need no display."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from nextgpt_pl.reports.groups import Group
from nextgpt_pl.reports.runs import Run


def panels(count: int, columns: int = 4, size: tuple[float, float] = (3.0, 2.6)) -> tuple[Figure, list[Any]]:
    """A figure with ``count`` axes in rows of up to ``columns``."""
    columns = max(1, min(columns, count))
    rows = max(1, math.ceil(count / columns))
    figure = Figure(figsize=(size[0] * columns, size[1] * rows), layout="constrained")
    FigureCanvasAgg(figure)
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axis in axes[count:]:
        axis.set_axis_off()
    return figure, axes[:count]


def run_curves(run: Run, metrics: Sequence[str]) -> Figure:
    """A panel per metric that the run logged."""
    names = [name for name in metrics if len(run.curve(name))]
    figure, axes = panels(len(names))
    for axis, name in zip(axes, names, strict=True):
        curve = run.curve(name)
        axis.plot(curve.index, curve, marker="." if len(curve) < 8 else None)
        label(axis, name)
        axis.set_ylim(bottom=min(0.0, float(curve.min())))
    return figure


def group_curves(groups: Sequence[Group], metrics: Sequence[str]) -> Figure:
    """A panel per metric: each group's mean by step, and a band of one standard deviation."""
    names = [name for name in metrics if any(len(group.curves(name)) for group in groups)]
    figure, axes = panels(len(names))
    for axis, name in zip(axes, names, strict=True):
        for group in groups:
            curves = group.curves(name)
            if not len(curves):
                continue
            mean, std = curves.mean(axis=1), curves.std(axis=1, ddof=1).fillna(0.0)
            (line,) = axis.plot(mean.index, mean, label=group.label, marker="." if len(mean) < 8 else None)
            axis.fill_between(mean.index, mean - std, mean + std, color=line.get_color(), alpha=0.2, linewidth=0)
        label(axis, name)
    if names and len(groups) > 1:
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=min(3, len(groups)), fontsize=7)
    return figure


def error_bars(groups: Sequence[Group], metrics: Sequence[str]) -> Figure:
    """A panel per metric: mean and standard deviation of each group, and each run as a dot.

    The horizontal axis is the only key that differs, if it is a number; otherwise there is one line per group.
    """
    key = numeric_key(groups)
    size = (3.0, 2.6) if key else (6.0, 0.9 + 0.35 * len(groups))
    figure, axes = panels(len(metrics), 4 if key else 2, size)
    positions = [float(group.settings[key]) for group in groups] if key else [-float(i) for i in range(len(groups))]
    for axis, metric in zip(axes, metrics, strict=True):
        values = [group.values(metric) for group in groups]
        for place, group_values in zip(positions, values, strict=True):
            dots = ([place] * len(group_values), list(group_values))
            axis.plot(*(dots if key else dots[::-1]), ".", color="0.4", markersize=4, zorder=3)
        known = [(p, v) for p, v in zip(positions, values, strict=True) if len(v)]
        means = [v.mean() for _, v in known]
        bars = [v.std(ddof=1) if len(v) > 1 else 0.0 for _, v in known]
        known_positions = [p for p, _ in known]
        if key:
            axis.errorbar(known_positions, means, yerr=bars, marker="o", markersize=4, capsize=3)
            _scale(axis, positions)
            label(axis, metric, key)
        else:
            axis.errorbar(means, known_positions, xerr=bars, fmt="o", markersize=4, capsize=3)
            axis.set_yticks(positions, [group.label for group in groups], fontsize=7)
            label(axis, metric, "")
    return figure


def numeric_key(groups: Sequence[Group]) -> str | None:
    """The one key that differs between the groups, if all its values are numbers."""
    keys = list(groups[0].settings) if groups else []
    if len(keys) != 1 or len(groups) < 2:
        return None
    values = [group.settings[keys[0]] for group in groups]
    return keys[0] if all(isinstance(v, int | float) and not isinstance(v, bool) for v in values) else None


def _scale(axis: Any, places: Sequence[float]) -> None:
    """Use a logarithmic axis if the values span a factor of four or more."""
    if min(places) > 0 and max(places) / min(places) >= 4:
        axis.set_xscale("log", base=2)
    axis.set_xticks(places, [f"{place:g}" for place in places])


def label(axis: Any, title: str, x: str = "step") -> None:
    """Set title and horizontal label of a panel."""
    axis.set_title(title, fontsize=9)
    axis.set_xlabel(x, fontsize=8)
    axis.tick_params(labelsize=7)


def attribute_bars(shares: pd.DataFrame) -> Figure:
    """A panel per modality: share of samples that have each attribute right, with its standard error.

    Args:
        shares: of :func:`nextgpt_pl.evaluation.judged.by_attribute`.

    """
    modalities = list(dict.fromkeys(shares.index.get_level_values(0)))
    longest = max((len(shares.loc[m]) for m in modalities), default=1)
    figure, axes = panels(len(modalities), 3, (4.0, 0.9 + 0.3 * longest))
    for axis, modality in zip(axes, modalities, strict=True):
        rows = shares.loc[modality]
        axis.barh(range(len(rows)), rows["right"], xerr=rows["error"], color="C0", ecolor="0.4", capsize=2)
        axis.set_yticks(range(len(rows)), list(rows.index), fontsize=8)
        axis.invert_yaxis()
        axis.set_xlim(0, 1.05)
        label(axis, str(modality), "share right")
    return figure


def confusion_figure(table: pd.DataFrame, title: str) -> Figure:
    """Confusion matrix of requested (rows) and generated (columns) values, in counts."""
    figure, (axis,) = panels(1, 1, (1.5 + 0.6 * len(table.columns), 1.3 + 0.4 * len(table)))
    axis.imshow(table.to_numpy(), cmap="Blues", aspect="auto")
    axis.set_xticks(range(len(table.columns)), list(table.columns), rotation=45, ha="right", fontsize=8)
    axis.set_yticks(range(len(table)), list(table.index), fontsize=8)
    half = table.to_numpy().max(initial=0) / 2
    for row, column in zip(*table.to_numpy().nonzero(), strict=True):
        count = table.iat[row, column]
        axis.text(column, row, count, ha="center", va="center", fontsize=8, color="white" if count > half else "black")
    axis.set_title(title, fontsize=9)
    axis.set_xlabel("made", fontsize=8)
    axis.set_ylabel("asked for", fontsize=8)
    return figure
