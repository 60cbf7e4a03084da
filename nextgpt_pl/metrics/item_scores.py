"""Means over items as torchmetrics metrics: answers, audio, and attributes found by the pocket world's judges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from nextgpt_pl.errors import UserError
from nextgpt_pl.metrics.vqa import vqa_accuracy

# attributes that the judges distinguish, over all media of the pocket world
ATTRIBUTES = (
    "objects",
    "shape",
    "colour",
    "size",
    "position",
    "background",
    "motion",
    "timbre",
    "pitch",
    "pattern",
)


class _ItemMean(Metric):
    """Means over items, by name; exact across ranks."""

    full_state_update = False
    sums: Tensor
    counts: Tensor

    def __init__(self, names: Sequence[str], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.names = tuple(names)
        for state in ("sums", "counts"):
            self.add_state(state, torch.zeros(len(names), dtype=torch.float64), dist_reduce_fx="sum")

    def add(self, name: str, value: float) -> None:
        """Add one item's value."""
        if name not in self.names:
            raise ValueError(f"{type(self).__name__}: {name!r} is not one of {', '.join(self.names)}")
        position = self.names.index(name)
        self.sums[position] += value
        self.counts[position] += 1

    def means(self) -> dict[str, Tensor]:
        """Means of the names that have items.

        Raises:
            ValueError: there are no items.

        """
        if not self.counts.any():
            raise ValueError(f"{type(self).__name__}: no item was given")
        values = self.sums / self.counts.clamp(min=1)
        return {n: v for n, v, count in zip(self.names, values, self.counts, strict=True) if count}


class VqaAccuracy(_ItemMean):
    """VQA accuracy of short answers.

    >>> metric = VqaAccuracy()
    >>> metric.update(["Two dogs.", "no"], [["2 dogs"], ["yes"]])
    >>> metric.compute().item()
    0.5

    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(("accuracy",), **kwargs)

    def update(self, answers: Sequence[str], references: Sequence[Sequence[str]]) -> None:
        """Add one answer and the annotators' answers per item."""
        for answer, known in zip(answers, references, strict=True):
            self.add("accuracy", vqa_accuracy(answer, known))

    def compute(self) -> Tensor:
        """The mean over items, in [0, 1]."""
        return self.means()["accuracy"]


class MelCepstralDistance(_ItemMean):
    """Mel-cepstral distance of audio files to their references, in decibels, with dynamic time warping.

    Computed by the package mel-cepstral-distance (extra ``metrics``).
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(("MCD",), **kwargs)

    def update(self, files: Sequence[Path], references: Sequence[Path]) -> None:
        """Add one file and its reference per item."""
        for value in mel_cepstral_distances(files, references):
            self.add("MCD", value)

    def compute(self) -> Tensor:
        """The mean over items."""
        return self.means()["MCD"]


def mel_cepstral_distances(files: Sequence[Path], references: Sequence[Path]) -> list[float]:
    """Mel-cepstral distance of each pair of audio files, in decibels.

    Raises:
        UserError: the package or a file is missing.

    """
    try:
        from mel_cepstral_distance import compare_audio_files
    except ImportError as error:
        raise UserError("MCD: pip install 'nextgpt-pl[metrics]' (mel-cepstral-distance)") from error
    for file in (*files, *references):
        if not file.is_file():
            raise UserError(f"MCD: {file}: no such file")
    return [float(compare_audio_files(a, b)[0]) for a, b in zip(files, references, strict=True)]


class JudgedAttributes(_ItemMean):
    """Share of items whose attributes are all right, and share per attribute, by the pocket world's judges."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(("all right", *ATTRIBUTES), **kwargs)

    def update(self, matches: Sequence[Mapping[str, bool]]) -> None:
        """Add the result of :func:`nextgpt_pl.pocket.judges.media.matches` per item."""
        for item in matches:
            self.add("all right", all(item.values()))
            for name, right in item.items():
                self.add(name, right)

    def compute(self) -> dict[str, Tensor]:
        """Shares in [0, 1], of the attributes that occurred."""
        return self.means()
