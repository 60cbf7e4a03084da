"""Constrained decoding: signal tokens occur in complete spans only, and required media occur.

The model chooses the first token of a span; the rest of the span is forced, and other signal tokens are forbidden. No
reply contains a malformed span, whatever the weights are.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from transformers import LogitsProcessor

from nextgpt_pl.batches import SignalSpan
from nextgpt_pl.modality import Modality
from nextgpt_pl.utils.transfer import upload


@dataclass
class SpanRules(LogitsProcessor):
    """Constraints on signal tokens.

    Attributes:
        signal_ids: ids of every modality's complete span, in order; modalities without a decoder are never allowed.
        allowed: modalities that may occur.
        required: modalities that must occur: the score of the end tokens is moved to the first one that is missing.
        end_ids: tokens that end a reply.

    """

    signal_ids: Mapping[Modality, Sequence[int]]
    allowed: frozenset[Modality]
    required: tuple[Modality, ...]
    end_ids: tuple[int, ...]

    @abstractmethod
    def following(self, ids: Sequence[int]) -> int | None:
        """The token that must follow ``ids``, if there is one."""

    def forced(self, ids: Sequence[int]) -> list[int]:
        """All tokens that must follow ``ids`` before the next free choice."""
        tokens: list[int] = []
        while (token := self.following([*ids, *tokens])) is not None:
            tokens.append(token)
        return tokens

    @abstractmethod
    def completed(self, ids: Sequence[int]) -> list[int]:
        """``ids``, with a started span completed."""

    @abstractmethod
    def forbidden(self, ids: Sequence[int]) -> tuple[int, ...]:
        """Tokens that must not follow ``ids``; used only if :meth:`following` returns ``None``."""

    @abstractmethod
    def may_end(self, ids: Sequence[int]) -> bool:
        """Whether the reply may end, or a required medium may begin, after ``ids``."""

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Constrain the scores ``(N, V)`` of the next token; ``input_ids (N, T)`` are the generated ids, no prompt.

        One host synchronisation reads the ids; :meth:`constrained` needs none.
        """
        return self.constrained(input_ids.tolist(), scores)

    def constrained(self, replies: Sequence[Sequence[int]], scores: Tensor) -> Tensor:
        """Constrained scores ``(N, V)`` of the next token of N replies, in one indexed write per kind of rule."""
        forced: list[tuple[int, int]] = []
        postponed: list[tuple[int, int]] = []
        forbidden: dict[tuple[int, ...], list[int]] = {}
        for row, ids in enumerate(replies):
            token = self.following(ids)
            if token is not None:
                forced.append((row, token))
                continue
            forbidden.setdefault(self.forbidden(ids), []).append(row)
            first = self.missing(ids) if self.may_end(ids) else None
            if first is not None:
                postponed.append((row, first))
        scores = scores.clone()
        for tokens, of_rows in forbidden.items():
            indices = upload(torch.tensor([*of_rows, *tokens]), scores.device)
            scores[indices[: len(of_rows)].unsqueeze(1), indices[len(of_rows) :]] = -torch.inf
        if postponed and self.end_ids:
            self._postpone_end(scores, *_places(postponed, scores))
        if forced:
            rows, columns = _places(forced, scores)
            scores[rows] = -torch.inf
            scores[rows, columns] = 0.0
        return scores

    def missing(self, ids: Sequence[int]) -> int | None:
        """The first token of the first required medium that does not occur in ``ids``."""
        first_tokens = (self.signal_ids[m][0] for m in self.required)
        return next((first for first in first_tokens if first not in ids), None)

    def _postpone_end(self, scores: Tensor, rows: Tensor, firsts: Tensor) -> None:
        """In some rows, move the score of the end tokens to the first token of a medium."""
        ends = upload(torch.tensor(self.end_ids), scores.device)
        best = scores[rows.unsqueeze(1), ends].amax(1)
        scores[rows, firsts] = torch.maximum(scores[rows, firsts], best)
        scores[rows.unsqueeze(1), ends] = -torch.inf

    def whole_reply(self, ids: Sequence[int]) -> list[int]:
        """A reply up to its end token, with a truncated span completed and missing required media added."""
        stop = next((i for i, token in enumerate(ids) if token in self.end_ids), len(ids))
        reply = self.completed(ids[:stop])
        for modality in self.required:
            if self.signal_ids[modality][0] not in reply:
                reply = self.completed([*reply, self.signal_ids[modality][0]])
        return reply


def _places(entries: Sequence[tuple[int, int]], scores: Tensor) -> tuple[Tensor, Tensor]:
    """Pairs of row and token as index tensors on the device of ``scores``."""
    rows, tokens = upload(torch.tensor(entries).T, scores.device)
    return rows, tokens


@dataclass
class WholeSpans(SpanRules):
    """Signal tokens occur in complete spans, in a fixed order.

    Attributes:
        separator: a token inside the spans that may also occur outside.

    """

    separator: int | None = None
    _places: dict[int, tuple[Sequence[int], int]] = field(init=False)
    _forbidden: tuple[int, ...] = field(init=False)

    def __post_init__(self) -> None:
        spans = self.signal_ids.values()
        self._places = {token: (ids, i) for ids in spans for i, token in enumerate(ids) if token != self.separator}
        openings = {self.signal_ids[modality][0] for modality in self.allowed if modality in self.signal_ids}
        self._forbidden = tuple(token for token in self._places if token not in openings)

    def following(self, ids: Sequence[int]) -> int | None:
        """The next token of a span that has begun and not ended."""
        for offset, token in enumerate(ids[:-3:-1]):
            if token in self._places:
                span, place = self._places[token]
                following = place + offset + 1
                return span[following] if following < len(span) else None
            if token != self.separator:
                break
        return None

    def completed(self, ids: Sequence[int]) -> list[int]:
        """``ids``, with a started span completed."""
        return [*ids, *self.forced(ids)]

    def forbidden(self, ids: Sequence[int]) -> tuple[int, ...]:
        """All signal tokens except the opening ones of allowed modalities."""
        return self._forbidden

    def may_end(self, ids: Sequence[int]) -> bool:
        """Between spans, always."""
        return True


def find_spans(ids: Sequence[int], signal_ids: Mapping[Modality, Sequence[int]], offset: int = 0) -> list[SignalSpan]:
    """The complete signal spans in generated ids, in order; positions start at ``offset``."""
    first = {ids_of[0]: (modality, len(ids_of)) for modality, ids_of in signal_ids.items()}
    spans, position = [], 0
    while position < len(ids):
        if ids[position] in first:
            modality, length = first[ids[position]]
            if list(ids[position : position + length]) == list(signal_ids[modality]):
                spans.append(SignalSpan(modality, offset + position, offset + position + length, ""))
                position += length
                continue
        position += 1
    return spans
