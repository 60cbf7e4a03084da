"""Which tokens may follow in a reply: whole signal spans or none, and the media that are asked for.

The first token of a span is the model's choice; the rest of it follows by force, and a stray one cannot be chosen. So
no reply holds a malformed span, whatever the model has learned.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from transformers import LogitsProcessor

from nextgpt_pl.modality import Modality
from nextgpt_pl.samples import SignalSpan


@dataclass
class SpanRules(LogitsProcessor):
    """What signal tokens may do.

    Attributes:
        signal_ids: ids of every modality's whole span, in order; those without a decoder are never allowed.
        allowed: modalities that may be started.
        required: modalities that must occur: what the model gives to the end of the reply goes to the first one that
            is missing.
        end_ids: tokens that end a reply.

    """

    signal_ids: Mapping[Modality, Sequence[int]]
    allowed: frozenset[Modality]
    required: tuple[Modality, ...]
    end_ids: tuple[int, ...]

    @abstractmethod
    def following(self, ids: Sequence[int]) -> int | None:
        """The token that must come after ``ids``, if there is one."""

    @abstractmethod
    def completed(self, ids: Sequence[int]) -> list[int]:
        """``ids``, with the rest of a span that has begun."""

    @abstractmethod
    def restrict(self, scores: Tensor, ids: list[int]) -> None:
        """Forbid tokens after ``ids`` in ``scores (V,)``, in place; none has to follow."""

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores ``(N, V)`` after ``input_ids (N, T)``, which hold what was generated and no prompt."""
        scores = scores.clone()
        for row, ids in enumerate(input_ids.tolist()):
            forced = self.following(ids)
            if forced is None:
                self.restrict(scores[row], ids)
            else:
                scores[row] = -torch.inf
                scores[row, forced] = 0.0
        return scores

    def postpone_end(self, scores: Tensor, ids: Sequence[int]) -> None:
        """Give what the end of the reply has to the first medium that must still come."""
        missing = [m for m in self.required if self.signal_ids[m][0] not in ids]
        if missing and self.end_ids:
            first = self.signal_ids[missing[0]][0]
            ends = list(self.end_ids)
            scores[first] = torch.maximum(scores[first], scores[ends].max())
            scores[ends] = -torch.inf

    def whole_reply(self, ids: Sequence[int]) -> list[int]:
        """A reply up to its end token; what the length limit cut off is known: a span's rest, and required media."""
        stop = next((i for i, token in enumerate(ids) if token in self.end_ids), len(ids))
        reply = self.completed(ids[:stop])
        for modality in self.required:
            if self.signal_ids[modality][0] not in reply:
                reply = self.completed([*reply, self.signal_ids[modality][0]])
        return reply


@dataclass
class WholeSpans(SpanRules):
    """Signal tokens come in whole spans, one fixed token after the other.

    Attributes:
        separator: a token inside the spans that may stand elsewhere too.

    """

    separator: int | None = None
    _places: dict[int, tuple[Sequence[int], int]] = field(init=False)

    def __post_init__(self) -> None:
        spans = self.signal_ids.values()
        self._places = {token: (ids, i) for ids in spans for i, token in enumerate(ids) if token != self.separator}

    def following(self, ids: Sequence[int]) -> int | None:
        """The next token of a span that has begun and not ended."""
        for back, token in enumerate(ids[:-3:-1]):
            if token in self._places:
                span, place = self._places[token]
                following = place + back + 1
                return span[following] if following < len(span) else None
            if token != self.separator:
                break
        return None

    def completed(self, ids: Sequence[int]) -> list[int]:
        """``ids``, with the rest of a span that has begun."""
        whole = list(ids)
        while (forced := self.following(whole)) is not None:
            whole.append(forced)
        return whole

    def restrict(self, scores: Tensor, ids: list[int]) -> None:
        """No signal token but the first ones of what is allowed."""
        for modality, span in self.signal_ids.items():
            tokens = [i for i in span if i != self.separator]
            scores[tokens[1:] if modality in self.allowed else tokens] = -torch.inf
        self.postpone_end(scores, ids)


def find_spans(ids: Sequence[int], signal_ids: Mapping[Modality, Sequence[int]], offset: int = 0) -> list[SignalSpan]:
    """The whole signal spans in generated ids, in order; positions start at ``offset``."""
    first = {ids_of[0]: (modality, len(ids_of)) for modality, ids_of in signal_ids.items()}
    found, position = [], 0
    while position < len(ids):
        if ids[position] in first:
            modality, length = first[ids[position]]
            if list(ids[position : position + length]) == list(signal_ids[modality]):
                found.append(SignalSpan(modality, offset + position, offset + position + length, ""))
                position += length
                continue
        position += 1
    return found
