"""How an assistant's media stand in its replies: as signal tokens, or as captions between two of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from nextgpt_pl.batches import SignalSpan
from nextgpt_pl.dialogue.caption_spans import CaptionSpans, find_captions
from nextgpt_pl.dialogue.signal_spans import SpanRules, WholeSpans, find_spans
from nextgpt_pl.errors import UserError
from nextgpt_pl.modality import Modality

MediaAs = Literal["signals", "captions"]
SpanIds = Mapping[Modality, Sequence[int]]


class ReplyMedia(ABC):
    """The representation of media in replies; ``network.media_as`` of the YAML chooses one.

    Attributes:
        projected: whether the hidden states of a span are projected for the decoder; otherwise the decoder's own text
            encoder reads the span's caption.

    """

    projected: bool

    @abstractmethod
    def check_count(self, modality: Modality, count: int) -> None:
        """Check the number of a modality's signal tokens.

        Raises:
            UserError: there are too few.

        """

    @abstractmethod
    def written(self, caption: str, span_ids: Sequence[int]) -> list[str | Sequence[int]]:
        """A medium in a training row, as text and token ids in order.

        Args:
            caption: of the medium.
            span_ids: token ids of its modality's whole span.

        """

    @abstractmethod
    def rules(
        self, span_ids: SpanIds, allowed: frozenset[Modality], required: tuple[Modality, ...], end_ids: tuple[int, ...]
    ) -> SpanRules:
        """The rules of generation; for the arguments see :class:`SpanRules`."""

    @abstractmethod
    def find(
        self, ids: Sequence[int], span_ids: SpanIds, decode: Callable[[list[int]], str], offset: int
    ) -> list[SignalSpan]:
        """The media in generated ids, in order.

        Args:
            ids: generated.
            span_ids: per modality, token ids of a whole span.
            decode: of the tokenizer.
            offset: position of ``ids[0]`` in its row.

        """


@dataclass(frozen=True)
class SignalMedia(ReplyMedia):
    """Whole spans of signal tokens, as in the paper.

    Attributes:
        separator: id of a token between each two signal tokens; ``None``: there is none.

    """

    separator: int | None = None
    projected = True

    def check_count(self, modality: Modality, count: int) -> None:
        """Any number of tokens is enough."""

    def written(self, caption: str, span_ids: Sequence[int]) -> list[str | Sequence[int]]:
        """The span; the caption is the target of the projected span and not part of the row."""
        return [span_ids]

    def rules(
        self, span_ids: SpanIds, allowed: frozenset[Modality], required: tuple[Modality, ...], end_ids: tuple[int, ...]
    ) -> SpanRules:
        """See :class:`WholeSpans`."""
        return WholeSpans(span_ids, allowed, required, end_ids, self.separator)

    def find(
        self, ids: Sequence[int], span_ids: SpanIds, decode: Callable[[list[int]], str], offset: int
    ) -> list[SignalSpan]:
        """Whole spans, without captions."""
        return find_spans(ids, span_ids, offset)


@dataclass(frozen=True)
class CaptionMedia(ReplyMedia):
    """A caption between the first and last signal token of its modality: a baseline in which nothing is projected."""

    projected = False

    def check_count(self, modality: Modality, count: int) -> None:
        """Two tokens at least."""
        if count < 2:
            raise UserError(f"num_signal_tokens.{modality}={count}: captions need one to open and one to close")

    def written(self, caption: str, span_ids: Sequence[int]) -> list[str | Sequence[int]]:
        """The opening token, the caption and the closing token."""
        return [span_ids[:1], caption, span_ids[-1:]]

    def rules(
        self, span_ids: SpanIds, allowed: frozenset[Modality], required: tuple[Modality, ...], end_ids: tuple[int, ...]
    ) -> SpanRules:
        """See :class:`CaptionSpans`."""
        return CaptionSpans(span_ids, allowed, required, end_ids)

    def find(
        self, ids: Sequence[int], span_ids: SpanIds, decode: Callable[[list[int]], str], offset: int
    ) -> list[SignalSpan]:
        """Whole spans with their captions."""
        return find_captions(ids, span_ids, decode, offset)


def reply_media(media_as: MediaAs, separator: int | None = None) -> ReplyMedia:
    """The representation that ``network.media_as`` names; ``separator``: see :class:`SignalMedia`."""
    return SignalMedia(separator) if media_as == "signals" else CaptionMedia()
