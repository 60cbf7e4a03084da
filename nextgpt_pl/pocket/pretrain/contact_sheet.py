"""The contact sheet: samples of the pocket decoders for held-out captions."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import numpy as np

from nextgpt_pl.media.plots import draw_media
from nextgpt_pl.modality import Modality
from nextgpt_pl.pocket.world.items import captioned_pair
from nextgpt_pl.pocket.world.scenes import SAMPLE_RATE

# modality -> number of samples, columns of the sheet
LAYOUT: dict[Modality, tuple[int, int]] = {Modality.IMAGE: (64, 8), Modality.VIDEO: (16, 2), Modality.AUDIO: (16, 8)}


def draw_samples(modality: Modality, count: int, seed: int) -> tuple[list[str], list[np.ndarray]]:
    """Held-out captions, and the media that the decoder generates from their embeddings."""
    from nextgpt_pl.pocket.parts import pocket_decoder

    captions = [captioned_pair("heldout", modality, number).caption for number in range(count)]
    decoder = pocket_decoder(modality)
    return captions, decoder.generate(decoder.embed_captions(captions), seed=seed)


def draw_sheet(path: Path, seed: int = 0) -> None:
    """Draw and save the sheet as a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(16, 32), layout="constrained")
    FigureCanvasAgg(figure)
    heights = {Modality.IMAGE: 8 * 2.3, Modality.VIDEO: 8 * 1.35, Modality.AUDIO: 2 * 2.4}
    parts: Any = figure.subfigures(len(LAYOUT), 1, height_ratios=list(heights.values()))
    for (modality, (count, columns)), part in zip(LAYOUT.items(), parts, strict=True):
        captions, samples = draw_samples(modality, count, seed)
        axes = part.subplots(count // columns, columns, squeeze=False)
        for axis, caption, sample in zip(axes.flat, captions, samples, strict=True):
            axis.set_title(textwrap.fill(caption, 80 if modality is Modality.VIDEO else 26), fontsize=7)
            draw_media(axis, modality, sample, SAMPLE_RATE)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=75)
