"""A survey of an experiment's data: reads all rows and a sample of the media."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from threading import Event
from typing import Any, get_args

from nextgpt_pl.data_stats import findings
from nextgpt_pl.data_stats.media import read_media, sample_of
from nextgpt_pl.data_stats.part import Part
from nextgpt_pl.data_stats.rows import read_rows
from nextgpt_pl.datamodules.base import ItemData
from nextgpt_pl.datamodules.sources import Source, Split


class Survey:
    """Counts what is in the data of an experiment; the sources' rows are indexed when it is made.

    Args:
        data: the data module, with a renderer.
        folder: folder of the temporary files: 128 bytes per row.
        workers: number of processes that read; 0: this one.
        sample: number of media per source and split whose files are read; 0: all.

    Attributes:
        parts: one per source and split.
        complete: whether everything was read.

    Raises:
        UserError: a source has broken rows and ``on_error: raise``, or no rows.

    """

    def __init__(self, data: ItemData, folder: Path, workers: int = 0, sample: int = 10_000) -> None:
        self.data, self.workers, self.sample = data, workers, sample
        self.conversation = data.conversation()
        self.complete = False
        self.parts: list[Part] = []
        for source, name in zip(data.sources, _distinct_names(data.sources), strict=True):
            for split in get_args(Split):
                if split == "val" and source.validates_on_training():
                    self.parts[-1].notes.append("validation has the same items: val_fraction is 0")
                    continue
                items, report = source.read(split), source.report
                signatures = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - open as long as the part
                self.parts.append(Part(name, split, items, report.split_counts[1], report.notes, signatures))

    def run(self, stop: Event) -> None:
        """Read all rows, then the sample of the media, until ``stop`` is set; what was counted until then is kept."""
        for part in self.parts:
            for rows in read_rows(part.items, self.conversation, self.workers, f"rows of {part.title}"):
                part.add_rows(rows, self.data.max_length)
                if stop.is_set():
                    return
        for part in self.parts:
            chosen = sample_of(part.uses, self.sample)
            title = f"media of {part.title}"
            for media in read_media(part.items, part.uses, chosen, self.conversation, self.workers, title):
                part.add_media(media)
                if stop.is_set():
                    return
        self.complete = True

    def numbers(self) -> dict[str, Any]:
        """All numbers as plain data."""
        training = [part for part in self.parts if part.split == "train"]
        return {
            "complete": self.complete,
            "max_length": self.data.max_length,
            "sample": self.sample,
            "mixture": findings.of_mixture(self.data, training),
            "parts": [findings.of_part(part, training, self.conversation) for part in self.parts],
        }


def _distinct_names(sources: Sequence[Source]) -> list[str]:
    """A name per source; sources of equal names are numbered."""
    names = [source.name or type(source).__name__ for source in sources]
    repeated = {name for name in names if names.count(name) > 1}
    return [f"{name} ({names[:i].count(name) + 1})" if name in repeated else name for i, name in enumerate(names)]
