"""Baseline without output projection: the LLM writes a caption for the decoder's text encoder.

The caption is between the first and the last signal token of a medium. A caption of maximum length is closed by force,
so no reply ends inside a span.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from nextgpt_pl.batches import SignalSpan
from nextgpt_pl.dialogue.signal_spans import SpanRules
from nextgpt_pl.modality import Modality

LONGEST = 64  # maximum number of tokens of a caption


@dataclass
class CaptionSpans(SpanRules):
    """Allows complete caption spans only: no other signal token and no end token inside a span."""

    _opening: dict[int, Modality] = field(init=False)
    _closing: frozenset[int] = field(init=False)

    def __post_init__(self) -> None:
        self._opening = {span[0]: modality for modality, span in self.signal_ids.items()}
        self._closing = frozenset(span[-1] for span in self.signal_ids.values())

    def opened(self, ids: Sequence[int]) -> tuple[Modality, int] | None:
        """Modality of the span that is open after ``ids``, and its number of caption tokens; ``None``: none is open."""
        for back, token in enumerate(reversed(ids)):
            if token in self._closing:
                return None
            if token in self._opening:
                return self._opening[token], back
        return None

    def following(self, ids: Sequence[int]) -> int | None:
        """The closing token, if the caption has the maximum length."""
        opened = self.opened(ids)
        return self.signal_ids[opened[0]][-1] if opened and opened[1] >= LONGEST else None

    def completed(self, ids: Sequence[int]) -> list[int]:
        """``ids``, with an open span closed."""
        opened = self.opened(ids)
        return [*ids, self.signal_ids[opened[0]][-1]] if opened else list(ids)

    def forbidden(self, ids: Sequence[int]) -> tuple[int, ...]:
        """Inside a span all signal tokens except its closing one; outside all except the allowed opening ones."""
        opened = self.opened(ids)
        tokens: list[int] = list(self.end_ids) if opened else []
        for modality, span in self.signal_ids.items():
            permitted: int | None = span[0] if modality in self.allowed else None
            if opened:
                permitted = span[-1] if modality is opened[0] else None
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
    """The complete spans in generated ids with their captions, in order; positions start at ``offset``."""
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
