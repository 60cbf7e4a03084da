"""Generation of a batch of replies, one pass of the LLM after the other, under the control of its consumer.

transformers prepares the constraints and the sampling; the loop is a generator here. Tokens that the constraints force,
such as the rest of a signal span, are read in one pass, and rows that have ended leave the batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessorList

from nextgpt_pl.dialogue.signal_spans import SpanRules
from nextgpt_pl.generation.decoding import Decoding
from nextgpt_pl.generation.prepared import Prepared, ends
from nextgpt_pl.generation.records import Choice, choice_of
from nextgpt_pl.generation.stopping import Stop, StoppedError
from nextgpt_pl.llm import CausalLM
from nextgpt_pl.llm.key_values import KeyValues
from nextgpt_pl.utils.distributed import any_rank
from nextgpt_pl.utils.transfer import upload


@dataclass(frozen=True)
class Step:
    """Tokens that a pass has added to one reply.

    Attributes:
        row: number of the prompt.
        tokens: n ids; an end token is the last one.
        states: ``(n, H)`` final hidden states of the token before each of them.
        choices: the choice of each; empty if they are not computed.

    """

    row: int
    tokens: list[int]
    states: Tensor
    choices: list[Choice] = field(default_factory=list)


@dataclass
class _Row:
    """A reply that is not finished.

    Attributes:
        number: of its prompt.
        ids: its tokens, forced ones included.
        unread: the last of them, which the LLM has not read.

    """

    number: int
    ids: list[int] = field(default_factory=list)
    unread: list[int] = field(default_factory=list)


def passes(
    llm: CausalLM, prepared: Prepared, decoding: Decoding, stop: Stop | None = None, alternatives: int = 0
) -> Iterator[list[Step]]:
    """Yield the steps of each pass of the LLM, until all replies are finished; one host synchronisation per pass.

    Random numbers are drawn from a generator of their own. If the LLM's passes are collective, all ranks run the same
    number of them.

    Args:
        llm: the language model.
        prepared: of the prompts.
        decoding: decoding options.
        stop: called after each pass; when it returns true, generation ends.
        alternatives: number of alternatives of each choice; 0: choices are not computed. They take one more host
            synchronisation per token.

    Raises:
        StoppedError: ``stop`` has returned true.

    """
    choose = _Chooser(prepared, decoding)
    cache = KeyValues(llm.model, int(llm.tokenizer.pad_token_id))
    rows: list[_Row | None] = [_Row(number) for number in range(len(prepared.lengths))]
    logits, states = cache.read_prompts(prepared.embeddings, prepared.lengths)
    read: list[list[int]] = [[] for _ in rows]
    while True:
        if stop is not None and stop():
            raise StoppedError
        yield _steps(rows, read, logits, states, choose, alternatives)
        rows = [row if row is not None and _goes_on(llm, prepared, row) else None for row in rows]
        active = [place for place, row in enumerate(rows) if row is not None]
        if not (any_rank(bool(active), states.device) if llm.collective else active):
            return
        if cache.ragged and not llm.collective and cache.wasteful(active):
            cache.compact(active)
            rows = [rows[place] for place in active]
        at_once = None if cache.ragged else 1
        read = [[] if row is None else row.unread[:at_once] for row in rows]
        logits, states = cache.read(read, logits=bool(alternatives))


def _goes_on(llm: CausalLM, prepared: Prepared, row: _Row) -> bool:
    """Whether a reply has more tokens, or some that are not read and whose successors are not yielded."""
    if ends(llm, prepared, row.ids):
        return False
    return len(row.unread) > 1 or len(row.ids) < prepared.limit


def _steps(
    rows: Sequence[_Row | None],
    read: Sequence[Sequence[int]],
    logits: Tensor,
    states: Tensor,
    choose: _Chooser,
    alternatives: int,
) -> list[Step]:
    """What a pass that has read these tokens adds to each row, which is extended by what is chosen and forced."""
    free = [p for p, row in enumerate(rows) if row is not None and choose.free(row, len(read[p]))]
    chosen, scores = choose(logits[:, -1], free, [row.ids for p in free if (row := rows[p]) is not None])
    steps = []
    for place, row in enumerate(rows):
        if row is None:
            continue
        count = len(read[place])
        tokens, row.unread = row.unread[1 : count + 1], row.unread[count:]
        own = states[place, -max(1, count) :]
        choices = []
        if alternatives:
            known = zip(tokens, logits[place, -max(1, count) :], strict=False)
            choices = [choice_of(seen, _only(token, seen), token, alternatives) for token, seen in known]
        if place in chosen:
            token = chosen[place]
            if alternatives:
                choices.append(choice_of(logits[place, -1], scores[free.index(place)], token, alternatives))
            tokens = [*tokens, token]
            row.unread = choose.with_forced(row, token)
            row.ids += row.unread
        steps.append(Step(row.number, tokens, own[: len(tokens)], choices))
    return steps


class _Chooser:
    """Chooses the tokens of all rows that are free to."""

    def __init__(self, prepared: Prepared, decoding: Decoding) -> None:
        self._rules, self._limit, self._sampled = prepared.rules, prepared.limit, decoding.temperature > 0
        self._before, self._after = _processors(prepared)
        self._random = torch.Generator(prepared.embeddings.device).manual_seed(decoding.seed)

    def free(self, row: _Row, count: int) -> bool:
        """Whether a row that has just read ``count`` tokens has no others that must follow."""
        return count == len(row.unread) and len(row.ids) < self._limit

    def with_forced(self, row: _Row, token: int) -> list[int]:
        """A chosen token and those that must follow it."""
        forced = self._rules.forced([*row.ids, token])
        return [token, *forced][: self._limit - len(row.ids)]

    @torch.no_grad()
    def __call__(
        self, logits: Tensor, places: Sequence[int], replies: Sequence[list[int]]
    ) -> tuple[dict[int, int], Tensor]:
        """The token of each place, and the scores ``(n, V)`` that they are chosen from."""
        if not places:
            return {}, logits[:0]
        scores = logits if len(places) == len(logits) else logits[upload(torch.tensor(places), logits.device)]
        scores = _by_length(self._before, replies, scores)
        scores = self._rules.constrained(replies, scores)
        scores = _by_length(self._after, replies, scores)
        if self._sampled:
            chosen = torch.multinomial(scores.softmax(-1), 1, generator=self._random)[:, 0]
        else:
            chosen = scores.argmax(-1)
        return dict(zip(places, chosen.tolist(), strict=True)), scores


def _by_length(processors: LogitsProcessorList, replies: Sequence[list[int]], scores: Tensor) -> Tensor:
    """Scores after processors that take the ids ``(N, T)`` of replies of one length."""
    if not processors:
        return scores
    groups: dict[int, list[int]] = {}
    for number, ids in enumerate(replies):
        groups.setdefault(len(ids), []).append(number)
    processed = torch.empty_like(scores)
    for numbers in groups.values():
        where = upload(torch.tensor(numbers), scores.device)
        written = upload(torch.tensor([replies[number] for number in numbers], dtype=torch.long), scores.device)
        processed[where] = processors(written, scores[where])
    return processed


def _processors(prepared: Prepared) -> tuple[LogitsProcessorList, LogitsProcessorList]:
    """Transformers' processors before and after the rules: penalties of the model, and the sampling's."""
    found: list[Any] = prepared.generate(
        inputs_embeds=prepared.embeddings,
        max_new_tokens=prepared.limit,
        logits_processor=LogitsProcessorList([prepared.rules]),
        custom_generate=_prepared_processors,
    )
    place = next(i for i, processor in enumerate(found) if isinstance(processor, SpanRules))
    return LogitsProcessorList(found[:place]), LogitsProcessorList(found[place + 1 :])


def _prepared_processors(
    _model: Any, _input_ids: Tensor, logits_processor: LogitsProcessorList, **_: Any
) -> LogitsProcessorList:
    """In the place of transformers' loop: the prepared processors."""
    return logits_processor


def _only(token: int, like: Tensor) -> Tensor:
    """Scores ``(V,)`` of which one token has all probability."""
    scores = torch.full_like(like, -torch.inf)
    scores[token] = 0.0
    return scores
