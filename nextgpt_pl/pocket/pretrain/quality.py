"""Quality of a trained part of the pocket weights on held-out items."""

from __future__ import annotations

from pathlib import Path

from nextgpt_pl.evaluation.pocket_decoders import drawn_right
from nextgpt_pl.modality import Modality
from nextgpt_pl.pocket.parts import pocket_decoder
from nextgpt_pl.pocket.pretrain.captions import embedding_quality


def measure_shipped(part: str, count: int) -> dict[str, float]:
    """Quality of a part of the package on held-out items; ``count`` of them for a decoder."""
    if part == "llm":
        from nextgpt_pl.pocket.pretrain.text import shipped_llm

        return shipped_llm().quality()
    if part == "encoder":
        from nextgpt_pl.pocket.pretrain.encoder import shipped_encoder

        return shipped_encoder().quality()
    return measure(Modality(part), count=count)


def measure(modality: Modality, root: Path | None = None, count: int = 96) -> dict[str, float]:
    """Share of ``count`` held-out captions that are generated right, and quality of the caption embeddings."""
    decoder = pocket_decoder(modality, root)
    return {**drawn_right(modality, root, count), **embedding_quality(decoder.embed_captions, [modality])}
