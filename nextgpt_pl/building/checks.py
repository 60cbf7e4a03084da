"""Checks whether a medium shows what a caption says."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch.nn import functional as F

from nextgpt_pl.errors import UserError
from nextgpt_pl.media.reading import array_of
from nextgpt_pl.metrics.extractors import Extractor
from nextgpt_pl.pocket.judges.media import judge, matches
from nextgpt_pl.pocket.judges.text import judge_text
from nextgpt_pl.samples import Media


class MediaCheck(ABC):
    """Accepts or refuses media for captions."""

    @abstractmethod
    def accepts(self, media: Sequence[Media], captions: Sequence[str]) -> list[bool]:
        """Whether each of N media of one modality fits its caption."""


class PocketJudge(MediaCheck):
    """The exact judges of the pocket world: every attribute that the caption names must be right."""

    def accepts(self, media: Sequence[Media], captions: Sequence[str]) -> list[bool]:
        """See :class:`MediaCheck`; captions outside of the pocket world are refused."""
        return [self._fits(medium, caption) for medium, caption in zip(media, captions, strict=True)]

    def _fits(self, medium: Media, caption: str) -> bool:
        expected = judge_text(caption, medium.modality)
        if expected is None:
            return False
        return all(matches(judge(array_of(medium)[0], medium.modality), expected).values())


class Similarity(MediaCheck):
    """The cosine similarity of medium and caption in the space of an extractor, such as CLIP or CLAP.

    Args:
        extractor: extractor with a text encoder.
        threshold: lowest similarity that is accepted.

    """

    def __init__(self, extractor: Extractor, threshold: float) -> None:
        if not -1 <= threshold <= 1:
            raise UserError(f"Similarity.threshold={threshold}: a cosine between -1 and 1 is expected")
        self.extractor, self.threshold = extractor, threshold

    def accepts(self, media: Sequence[Media], captions: Sequence[str]) -> list[bool]:
        """See :class:`MediaCheck`."""
        features = (
            F.normalize(self.extractor.media(media), dim=1),
            F.normalize(self.extractor.captions(captions), dim=1),
        )
        similarities: torch.Tensor = (features[0] * features[1]).sum(1)
        return [value >= self.threshold for value in similarities.tolist()]
