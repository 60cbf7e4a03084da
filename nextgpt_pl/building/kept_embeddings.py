"""Embeddings of a catalogue's captions, kept on disk: a build that is started again does not embed them again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from nextgpt_pl.errors import UserError
from nextgpt_pl.features.keys import digest
from nextgpt_pl.metrics.extractors import Extractor
from nextgpt_pl.utils.atomic import atomic_file

_CHUNK = 16_384  # captions per file; an interrupted build loses at most one
_TOLERANCE = 0.01  # of a number of an embedding; float16 and other devices differ by less
_NAME = "embeddings"


def caption_embeddings(captions: Sequence[str], extractor: Extractor, folder: Path) -> Tensor:
    """Normalised embeddings ``(N, D)`` float16 of captions, from the files of a folder where they have them.

    A file is named by its captions and the extractor's name. It is used if it has what the extractor gives for its
    first caption, so embeddings of other weights are not.

    Args:
        captions: N captions.
        extractor: embeds those that the folder does not have.
        folder: the folder.

    Raises:
        UserError: an embedding is not finite.

    """
    chunks = [captions[start : start + _CHUNK] for start in range(0, len(captions), _CHUNK)]
    with tqdm(total=len(captions), desc="embedding captions", unit=" captions", unit_scale=True, delay=2) as bar:
        found = []
        for chunk in chunks:
            found.append(_of_chunk(chunk, extractor, folder))
            bar.update(len(chunk))
    return torch.cat(found)


def _of_chunk(captions: Sequence[str], extractor: Extractor, folder: Path) -> Tensor:
    file = folder / f"{digest(extractor.name, *captions).hex()}.safetensors"
    kept = _read(file)
    if kept is not None and len(kept) == len(captions):
        first = _encoded(captions[:1], extractor)
        if first.shape[1] == kept.shape[1] and torch.allclose(first.float(), kept[:1].float(), rtol=0, atol=_TOLERANCE):
            return kept
    embeddings = _encoded(captions, extractor)
    with atomic_file(file) as scratch:
        save_file({_NAME: embeddings}, scratch)
    return embeddings


def _read(file: Path) -> Tensor | None:
    try:
        return load_file(file)[_NAME]
    except (OSError, SafetensorError, KeyError):  # none there, or damaged: it is written anew
        return None


def _encoded(captions: Sequence[str], extractor: Extractor) -> Tensor:
    embeddings = F.normalize(extractor.captions(captions).float(), dim=1)
    bad = (~embeddings.isfinite()).any(1)
    if bad.any():
        caption = captions[int(bad.nonzero()[0])]
        raise UserError(f"{extractor.name}: the embedding of {caption!r:.80} has numbers that are not finite")
    return embeddings.half()
