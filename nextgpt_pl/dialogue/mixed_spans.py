"""Rules of replies in which some media are whole spans of signal tokens, and others are spans of words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nextgpt_pl.dialogue.caption_spans import CaptionSpans
from nextgpt_pl.dialogue.signal_spans import SpanRules, WholeSpans


@dataclass
class MixedSpans(SpanRules):
    """Allows complete spans of both kinds, never one inside the other.

    Attributes:
        whole: rules of the spans of signal tokens.
        worded: rules of the spans of words.

    """

    whole: WholeSpans
    worded: CaptionSpans

    def following(self, ids: Sequence[int]) -> int | None:
        """The token that the span that is open after ``ids`` needs, if there is one."""
        token = self.worded.following(ids)
        return self.whole.following(ids) if token is None else token

    def completed(self, ids: Sequence[int]) -> list[int]:
        """``ids``, with a started span completed."""
        return self.worded.completed(self.whole.completed(ids))

    def forbidden(self, ids: Sequence[int]) -> tuple[int, ...]:
        """What both rules forbid; inside a span of words, also the tokens that open other spans."""
        openings = () if self.worded.may_end(ids) else tuple(span[0] for span in self.whole.signal_ids.values())
        return tuple(dict.fromkeys((*self.worded.forbidden(ids), *self.whole.forbidden(ids), *openings)))

    def may_end(self, ids: Sequence[int]) -> bool:
        """Whether no span of words is open after ``ids``."""
        return self.worded.may_end(ids)
