"""Histograms of lengths and of properties of media."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from nextgpt_pl.data_stats.distribution import Distribution, edges_of, is_wide
from nextgpt_pl.data_stats.part import Part
from nextgpt_pl.data_stats.rows import LENGTHS
from nextgpt_pl.modality import MODALITIES
from nextgpt_pl.reports.figures import label, panels

#: what the properties of media are called
PROPERTY_NAMES = {
    "size": "bytes of the file",
    "width": "width in pixels",
    "height": "height in pixels",
    "seconds": "duration in seconds",
    "rate": "frames or samples per second",
}


def length_figure(parts: Sequence[Part], max_length: int) -> Figure | None:
    """A panel per kind of length, with a line at ``data.max_length``; ``None`` if all rows are alike."""
    of_length = {name: {part.title: part.lengths[name] for part in parts} for name in LENGTHS}
    return _histograms({f"{name} per row": found for name, found in of_length.items()}, {"tokens per row": max_length})


def media_figure(parts: Sequence[Part]) -> Figure | None:
    """A panel per modality and property; ``None`` if all media are alike."""
    return _histograms(
        {
            f"{modality}: {words}": {part.title: part.properties[modality][name] for part in parts}
            for modality in MODALITIES
            for name, words in PROPERTY_NAMES.items()
        },
        {},
    )


def _histograms(found: Mapping[str, Mapping[str, Distribution]], lines: Mapping[str, float]) -> Figure | None:
    """A panel per title, with the share of values in each bin of each distribution; none where all values are equal."""
    filled = {title: {name: d for name, d in of.items() if len(d)} for title, of in found.items()}
    filled = {title: of for title, of in filled.items() if len({v for d in of.values() for v in d.arrays()[0]}) > 1}
    if not filled:
        return None
    figure, axes = panels(len(filled), 3, (3.4, 2.6))
    handles: dict[str, Any] = {}
    colours = {name: f"C{i % 10}" for i, name in enumerate(dict.fromkeys(n for of in filled.values() for n in of))}
    for axis, (title, of_title) in zip(axes, filled.items(), strict=True):
        edges = edges_of(list(of_title.values()))
        for name, distribution in of_title.items():
            values, counts = distribution.arrays()
            shares = np.histogram(values, edges, weights=counts)[0] / counts.sum()
            handles[name] = axis.stairs(shares, edges, color=colours[name], label=name)
        if is_wide(edges[0], edges[-1]):
            axis.set_xscale("log")
        if lines.get(title, math.inf) <= edges[-1]:
            axis.axvline(lines[title], color="0.5", linestyle=":")
        label(axis, title, "")
    figure.legend(list(handles.values()), list(handles), loc="outside lower center", ncols=3, fontsize=7)
    return figure
