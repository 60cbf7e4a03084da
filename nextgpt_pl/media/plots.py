"""Figures that show media side by side under their captions."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nextgpt_pl.modality import Modality


def compare(
    path: Path,
    modality: Modality,
    captions: Sequence[str],
    series: Mapping[str, Sequence[np.ndarray]],
    rate: int = 16_000,
) -> None:
    """A figure with one panel per caption and series: images and spectrograms in columns, videos as film strips."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    strips = modality is Modality.VIDEO
    rows, columns = (len(captions) * len(series), 1) if strips else (len(series), len(captions))
    size = (9.0, 1.45 * rows) if strips else (2.3 * columns, 2.6 * rows)
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False)
    for row, (name, media) in enumerate(series.items()):
        for index, caption in enumerate(captions):
            axis = axes[index * len(series) + row, 0] if strips else axes[row, index]
            title = f"{name}: {caption}" if strips else f"{textwrap.fill(caption, 26)}\n({name})"
            axis.set_title(title, fontsize=8)
            draw_media(axis, modality, media[index], rate)
    figure.savefig(path, dpi=110)


def draw_media(axis: Any, modality: Modality, array: np.ndarray, rate: int) -> None:
    """An image, a video as a film strip, or a sound as its spectrogram."""
    if modality.form is Modality.AUDIO:
        # weak noise keeps the logarithm of silence finite
        noisy = array + 1e-6 * np.random.default_rng(0).standard_normal(len(array))
        axis.specgram(noisy, NFFT=1024, noverlap=768, Fs=rate, vmin=-110, vmax=-30)
        axis.set_yscale("symlog", linthresh=500)
        axis.set_ylim(100, rate / 2)
        axis.set_xlabel("s", fontsize=7)
        axis.set_ylabel("Hz", fontsize=7)
        axis.tick_params(labelsize=6)
        return
    axis.imshow(np.concatenate(list(array), axis=1) if modality is Modality.VIDEO else array, interpolation="nearest")
    axis.set_axis_off()
