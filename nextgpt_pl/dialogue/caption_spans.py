"""Media that the LLM describes in words, between the first and the last signal token of a span.

The words are read by a decoder that takes words, such as one that speaks them; or, in the baseline without output
projection, they are a caption for the decoder's text encoder. Words of maximum length are closed by force, so no reply
ends inside a span.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

from nextgpt_pl.batches import SignalSpan
from nextgpt_pl.dialogue.signal_spans import SpanRules
from nextgpt_pl.modality import Modality

LONGEST = 64  # maximum number of tokens of a caption


@dataclass(frozen=True)
class WordLimits:
    """Number of tokens between the signal tokens of a span.

    Attributes:
        least: minimum.
        most: maximum.

    """

    least: int = 0
    most: int = LONGEST


@dataclass
class CaptionSpans(SpanRules):
    """Allows complete spans of words only: no other signal token and no end token inside a span.

    Attributes:
        limits: number of tokens of a span per modality; by default those of captions.

    """

    limits: Mapping[Modality, WordLimits] = field(default_factory=dict)
    _opening: dict[int, Modality] = field(init=False)
    _closing: frozenset[int] = field(init=False)
    _most: int = field(init=False)

    def __post_init__(self) -> None:
        self._opening = {span[0]: modality for modality, span in self.signal_ids.items()}
        self._closing = frozenset(span[-1] for span in self.signal_ids.values())
        self.limits = {modality: self.limits.get(modality, WordLimits()) for modality in self.signal_ids}
        self._most = max((limits.most for limits in self.limits.values()), default=0)

    def opened(self, ids: Sequence[int]) -> tuple[Modality, int] | None:
        """Modality of the span that is open after ``ids``, and its number of words' tokens; ``None``: none is open."""
        # a longer span has been closed
        for back, token in enumerate(islice(reversed(ids), self._most + 1)):
            if token in self._closing:
                return None
            if token in self._opening:
                return self._opening[token], back
        return None

    def following(self, ids: Sequence[int]) -> int | None:
        """The closing token, if the span has the maximum length."""
        opened = self.opened(ids)
        return self.signal_ids[opened[0]][-1] if opened and opened[1] >= self.limits[opened[0]].most else None

    def completed(self, ids: Sequence[int]) -> list[int]:
        """``ids``, with an open span closed; one with too few words is removed."""
        opened = self.opened(ids)
        if opened is None:
            return list(ids)
        modality, count = opened
        if count < self.limits[modality].least:
            return list(ids[: len(ids) - count - 1])
        return [*ids, self.signal_ids[modality][-1]]

    def forbidden(self, ids: Sequence[int]) -> tuple[int, ...]:
        """Inside a span all signal tokens except its closing one, which needs words before it.

        Outside all except the allowed opening ones.
        """
        opened = self.opened(ids)
        tokens: list[int] = list(self.end_ids) if opened else []
        for modality, span in self.signal_ids.items():
            permitted: int | None = span[0] if modality in self.allowed else None
            if opened:
                closes = modality is opened[0] and opened[1] >= self.limits[modality].least
                permitted = span[-1] if closes else None
            tokens += [i for i in span if i != permitted]
        return tuple(tokens)

    def may_end(self, ids: Sequence[int]) -> bool:
        """Whether no span is open after ``ids``."""
        return self.opened(ids) is None


def find_captions(
    ids: Sequence[int],
    signal_ids: Mapping[Modality, Sequence[int]],
    decode: Callable[[list[int]], str],
    offset: int = 0,
) -> list[SignalSpan]:
    """The complete spans in generated ids with their words as captions, in order; positions start at ``offset``."""
    opening = {span[0]: (modality, span[-1]) for modality, span in signal_ids.items()}
    spans, start = [], 0
    while start < len(ids):
        modality, last = opening.get(ids[start], (None, -1))
        if modality is not None and last in ids[start:]:
            stop = list(ids).index(last, start)
            caption = decode(list(ids[start + 1 : stop])).strip()
            spans.append(SignalSpan(modality, offset + start, offset + stop + 1, caption))
            start = stop
        start += 1
    return spans
