"""How an assistant's media stand in its replies: as signal tokens, or as words between two of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from nextgpt_pl.batches import SignalSpan
from nextgpt_pl.dialogue.caption_spans import CaptionSpans, WordLimits, find_captions
from nextgpt_pl.dialogue.mixed_spans import MixedSpans
from nextgpt_pl.dialogue.signal_spans import SpanRules, WholeSpans, find_spans
from nextgpt_pl.errors import UserError
from nextgpt_pl.modality import DECODABLE, Modality

MediaAs = Literal["signals", "captions"]
SpanIds = Mapping[Modality, Sequence[int]]


@dataclass(frozen=True)
class ReplyMedia:
    """The representation of media in replies.

    Media of a modality are whole spans of signal tokens, whose hidden states are projected for the decoder (as in the
    paper); or words between an opening and a closing signal token, which the decoder or its text encoder reads.

    Attributes:
        words: per modality whose media are words, the limits of their number of tokens.
        separator: id of a token between each two signal tokens of whole spans; ``None``: there is none.

    """

    words: Mapping[Modality, WordLimits] = field(default_factory=dict)
    separator: int | None = None

    def check_count(self, modality: Modality, count: int) -> None:
        """Check the number of a modality's signal tokens.

        Raises:
            UserError: there are too few.

        """
        if modality in self.words and count < 2:
            raise UserError(f"num_signal_tokens.{modality}={count}: words need one token to open and one to close")

    def check_words(self, modality: Modality, text: str, count: int, key: str) -> None:
        """Check words that a decoder takes before they are learned; captions of text encoders may have any length.

        Args:
            modality: of the medium.
            text: the words.
            count: their number of tokens.
            key: name of the item.

        Raises:
            UserError: there are no words, or more than rules of generation allow.

        """
        limits = self.words[modality]
        if limits.least and not text.strip():
            raise UserError(f"{key}: the assistant's {modality} has no words")
        if limits.least and count > limits.most:
            raise UserError(
                f"{key}: the assistant's {modality} has {count} tokens of words, at most {limits.most} are allowed"
                f" (max_tokens of network.decoders.{modality}): {text!r:.80}"
            )

    def written(self, modality: Modality, caption: str, span_ids: Sequence[int]) -> list[str | Sequence[int]]:
        """A medium in a training row, as text and token ids in order.

        Args:
            modality: of the medium.
            caption: of the medium: its words, or the target of the projected span, which is not in the row.
            span_ids: token ids of its modality's whole span.

        """
        return [span_ids[:1], caption, span_ids[-1:]] if modality in self.words else [span_ids]

    def rules(
        self, span_ids: SpanIds, allowed: frozenset[Modality], required: tuple[Modality, ...], end_ids: tuple[int, ...]
    ) -> SpanRules:
        """The rules of generation; for the arguments see :class:`SpanRules`."""
        worded_ids, whole_ids = self._split(span_ids)
        whole = WholeSpans(whole_ids, allowed, required, end_ids, self.separator)
        worded = CaptionSpans(worded_ids, allowed, required, end_ids, self.words)
        if whole_ids and worded_ids:
            return MixedSpans(span_ids, allowed, required, end_ids, whole, worded)
        return worded if worded_ids else whole

    def find(
        self, ids: Sequence[int], span_ids: SpanIds, decode: Callable[[list[int]], str], offset: int
    ) -> list[SignalSpan]:
        """The media in generated ids, in order; words are captions of their spans.

        Args:
            ids: generated.
            span_ids: per modality, token ids of a whole span.
            decode: of the tokenizer.
            offset: position of ``ids[0]`` in its row.

        """
        worded, whole = self._split(span_ids)
        found = [*find_captions(ids, worded, decode, offset), *find_spans(ids, whole, offset)]
        return sorted(found, key=lambda span: span.start)

    def _split(self, span_ids: SpanIds) -> tuple[SpanIds, SpanIds]:
        """Spans of words, and whole spans."""
        worded = {modality: ids for modality, ids in span_ids.items() if modality in self.words}
        return worded, {modality: ids for modality, ids in span_ids.items() if modality not in self.words}


def reply_media(
    media_as: MediaAs, separator: int | None = None, words: Mapping[Modality, WordLimits] | None = None
) -> ReplyMedia:
    """The representation that ``network.media_as`` names.

    Args:
        media_as: ``signals``; or ``captions``, which are words for all modalities.
        separator: see :class:`ReplyMedia`.
        words: limits of the modalities whose decoders take words.

    """
    captions = dict.fromkeys(DECODABLE, WordLimits()) if media_as == "captions" else {}
    return ReplyMedia({**captions, **(words or {})}, separator)
