"""Tables of sample media and captions of the last validation of runs."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from nextgpt_pl.modality import MODALITIES, Modality
from nextgpt_pl.reports.document import Document, Medium, Table
from nextgpt_pl.reports.groups import Group
from nextgpt_pl.reports.runs import Run
from nextgpt_pl.utils.escaping import plain_cell

T = TypeVar("T")


@dataclass(frozen=True)
class Sample:
    """A medium for one caption.

    Attributes:
        theirs: generated from the caption embedding.
        ours: generated from the signal tokens.

    """

    theirs: Path
    ours: Path


def drawn(run: Run, modality: Modality) -> dict[str, Sample]:
    """Sample media by caption; videos as GIF, which every page shows."""
    files = run.samples(f"{modality}_captions.txt")
    if not files:
        return {}
    suffix = ".gif" if modality is Modality.VIDEO else MODALITIES[modality].sample_suffix
    samples = {}
    for line in files[0].read_text(encoding="utf-8", errors="replace").splitlines():
        number, _, caption = line.partition(": ")
        if not number.isdecimal():  # a path, in a third party's run
            continue
        theirs, ours = (files[0].with_name(f"{modality}_{number}_{kind}{suffix}") for kind in ("text", "signal"))
        if run.owns(theirs) and run.owns(ours):
            samples[caption] = Sample(theirs, ours)
    return samples


def said(run: Run) -> list[dict[str, str]]:
    """Captions of the run, with ``key``, ``caption`` and ``reference``."""
    files = run.samples("captions.tsv")
    if not files:
        return []
    with files[0].open(encoding="utf-8", errors="replace") as file:
        rows = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE, restkey="more", restval="")
        return [{name: plain_cell(row.get(name) or "") for name in ("key", "caption", "reference")} for row in rows]


def media_table(document: Document, groups: Sequence[Group], modality: Modality, most: int = 4) -> Table | None:
    """A row per caption: the medium of the text encoder, and that of each group's first run with samples."""
    columns = _columns(groups, lambda run: drawn(run, modality))
    if not columns:
        return None
    captions = list(dict.fromkeys(caption for _, by_caption in columns for caption in by_caption))[:most]
    rows = []
    for row, caption in enumerate(captions):
        owners = [by_caption.get(caption) for _, by_caption in columns]
        theirs = next(sample.theirs for sample in owners if sample)
        cells: list[Medium | str] = [caption, _kept(document, theirs, f"{modality}_{row}_text")]
        for column, sample in enumerate(owners):
            cells.append(_kept(document, sample.ours, f"{modality}_{row}_{column}") if sample else "-")
        rows.append(cells)
    return Table(("caption", "text encoder", *(label for label, _ in columns)), rows)


def caption_table(groups: Sequence[Group], most: int = 12) -> Table | None:
    """A row per item: a right caption, and each group's."""
    columns = _columns(groups, lambda run: {row["key"]: row for row in said(run)})
    if not columns:
        return None
    keys = list(dict.fromkeys(key for _, by_key in columns for key in by_key))[:most]
    rows = []
    for key in keys:
        owners = [by_key.get(key) for _, by_key in columns]
        reference = next(row["reference"] for row in owners if row)
        rows.append([key, reference, *(row["caption"] if row else "-" for row in owners)])
    return Table(("item", "a right caption", *(label for label, _ in columns)), rows)


def _columns(groups: Sequence[Group], read: Callable[[Run], dict[str, T]]) -> list[tuple[str, dict[str, T]]]:
    first_samples = ((group.label, next(filter(None, map(read, group.runs)), {})) for group in groups)
    return [(label, samples) for label, samples in first_samples if samples]


def _kept(document: Document, file: Path, stem: str) -> Medium:
    return document.keep(file, stem + file.suffix, stem)
