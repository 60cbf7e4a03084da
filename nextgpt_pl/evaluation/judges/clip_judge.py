"""A judge by the similarity of an image and the text that it should show."""

from __future__ import annotations

from collections.abc import Sequence

from nextgpt_pl.errors import UserError, at_least
from nextgpt_pl.evaluation.judges.base import YES, Inquiry, Judge, Judgement
from nextgpt_pl.metrics import distributions
from nextgpt_pl.metrics.extractor import Extractor
from nextgpt_pl.modality import Modality
from nextgpt_pl.samples import Media

_VERSION = 1


class ClipJudge(Judge):
    """Cosine similarity of the last image and its caption, as an answer.

    A question of yes or no is answered by yes from a threshold on. The similarity, of which negative values count as 0,
    is the share of each other scale. A similarity hardly reads counts, colours and relations.

    Args:
        extractor: extractor with a text encoder, such as ``ClipFeatures``.
        threshold: the lowest similarity that is a yes.

    """

    def __init__(self, extractor: Extractor, threshold: float = 0.3) -> None:
        at_least(0, threshold=threshold)
        self.extractor, self.threshold = extractor, threshold

    @property
    def identity(self) -> str:
        """Name of the extractor, threshold, and version of the judge."""
        return f"{self.extractor.name}, yes from {self.threshold:g}, {_VERSION}"

    def judge(self, inquiries: Sequence[Inquiry]) -> list[Judgement]:
        """One answer per question."""
        if not inquiries:
            return []
        for inquiry in inquiries:
            if not inquiry.images or not inquiry.caption:
                raise UserError(f"{self.identity}: an image and its caption are needed, not {inquiry.text!r:.80}")
        images = self.extractor.media([Media(Modality.IMAGE, inquiry.images[-1]) for inquiry in inquiries])
        captions = self.extractor.captions([inquiry.caption for inquiry in inquiries])
        shares = distributions.similarity(images.double(), captions.double()) / 100
        return [self._judgement(inquiry, float(share)) for inquiry, share in zip(inquiries, shares, strict=True)]

    def _judgement(self, inquiry: Inquiry, share: float) -> Judgement:
        values = {
            scale.name: float(share >= self.threshold)
            if scale.name == YES.name
            else scale.low + (scale.high - scale.low) * share
            for scale in inquiry.scales
        }
        return Judgement(values, f"{share:.4f}")
