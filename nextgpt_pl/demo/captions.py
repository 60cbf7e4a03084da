"""Captions whose embeddings are nearest to one that the LLM's signal tokens are projected to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from nextgpt_pl.errors import UserError
from nextgpt_pl.media.files import existing
from nextgpt_pl.modality import GENERATED, Modality
from nextgpt_pl.model import NextGPT
from nextgpt_pl.pocket.world.items import captioned_pair

_POCKET_CAPTIONS = 300  # per modality
_MAX_CAPTIONS, _MAX_BYTES = 2000, 2**20


def pocket_captions() -> dict[Modality, list[str]]:
    """Captions of held-out items of the pocket world, per modality."""
    drawn = {m: [captioned_pair("heldout", m, i).caption for i in range(_POCKET_CAPTIONS)] for m in GENERATED}
    return {modality: list(dict.fromkeys(captions)) for modality, captions in drawn.items()}


def captions_of(file: Path) -> dict[Modality, list[str]]:
    """The lines of a UTF-8 text file, for all modalities; empty and repeated ones are left out.

    Raises:
        UserError: the file cannot be read, is too large, or has fewer than two captions.

    """
    if existing(file).stat().st_size > _MAX_BYTES:
        raise UserError(f"--captions {file}: {file.stat().st_size:,} bytes, at most {_MAX_BYTES:,} are read")
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--captions {file}: not a readable UTF-8 text file ({error})") from error
    captions = list(dict.fromkeys(line.strip() for line in lines if line.strip()))
    if not 2 <= len(captions) <= _MAX_CAPTIONS:
        raise UserError(f"--captions {file}: {len(captions)} captions, 2 to {_MAX_CAPTIONS:,} are expected, one a line")
    return dict.fromkeys(GENERATED, captions)


class NearestCaptions:
    """Finds captions by the cosine similarity of their embeddings to a given one.

    Text encoders give all captions a large common component. So the mean embedding of the captions is subtracted
    before similarities are computed.

    Args:
        network: its decoders' text encoders embed the captions, when a modality is first asked for.
        captions: per modality, two or more.

    """

    def __init__(self, network: NextGPT, captions: Mapping[Modality, Sequence[str]]) -> None:
        self._network, self._captions = network, captions
        self._embedded: dict[Modality, tuple[Tensor, Tensor]] = {}

    @torch.no_grad()
    def __call__(self, modality: Modality, embedding: Tensor, count: int = 5) -> list[tuple[str, float]]:
        """The nearest captions with their cosine similarity, in descending order.

        Args:
            modality: of the decoder that receives the embedding.
            embedding: ``(L, D)`` or ``(D,)``.
            count: number of captions.

        """
        if modality not in self._embedded:
            vectors = self._network.caption_embeddings(modality, self._captions[modality]).flatten(1).float()
            mean = vectors.mean(0)
            self._embedded[modality] = mean, F.normalize(vectors - mean, dim=-1)
        mean, directions = self._embedded[modality]
        similarities = directions @ F.normalize(embedding.to(mean).flatten() - mean, dim=-1)
        values, places = similarities.topk(min(count, len(similarities)))
        captions = self._captions[modality]
        return [(captions[i], value) for i, value in zip(places.tolist(), values.tolist(), strict=True)]
