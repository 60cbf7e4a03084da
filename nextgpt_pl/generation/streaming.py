"""A reply while it is written: pieces of text and media in order, as soon as they are certain."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import torch
from torch import Tensor

from nextgpt_pl.batches import Rendered, SignalSpan
from nextgpt_pl.generation.decoding import Decoding
from nextgpt_pl.generation.generate import Generated, common_length, whole_reply
from nextgpt_pl.generation.prepared import Prepared, ends, prepare, tokens_before
from nextgpt_pl.generation.records import Choice, TokenRecord, token_records
from nextgpt_pl.generation.signals import Condition, Written, conditions, spans_of, written
from nextgpt_pl.generation.stopping import Stop
from nextgpt_pl.generation.token_passes import passes
from nextgpt_pl.model import NextGPT
from nextgpt_pl.samples import ReplyPart

#: a piece of text, or a medium with what its decoder is told
Piece = ReplyPart | tuple[SignalSpan, Condition]
Recorded = Piece | TokenRecord


def joined(parts: Iterable[ReplyPart]) -> list[ReplyPart]:
    """The parts of a streamed reply as :meth:`AnyToAny.batch` returns them: whole texts, and no previews."""
    whole: list[ReplyPart] = []
    for part in parts:
        if part.type == "text" and whole and whole[-1].type == "text":
            last = whole[-1]
            whole[-1] = replace(last, text=f"{last.text}{part.text}", tokens=last.tokens + part.tokens)
        elif part.step is None:
            whole.append(part)
    return whole


def pieces(
    network: NextGPT, prompt: Rendered, decoding: Decoding, stop: Stop | None = None, alternatives: int = 0
) -> Iterator[Recorded]:
    """Generate the reply to one prompt and yield its pieces.

    A text is yielded in pieces that joined are the whole text; a medium when the states of all its signal tokens are
    known, which is one token later.

    Args:
        network: the model.
        prompt: the prompt.
        decoding: decoding options.
        stop: called after each pass of the LLM; when it returns true, generation ends.
        alternatives: number of alternatives in the record of each token, which is yielded before the token's pieces;
            0: no records.

    Raises:
        StoppedError: ``stop`` has returned true.

    """
    prepared = prepare(network, [prompt], decoding)
    reader = _Reader(network, prompt)
    ids: list[int] = []
    states: list[Tensor] = []
    for token, state, choice in _tokens(network, prepared, decoding, stop, alternatives):
        if ids:
            states.append(state)
        ids.append(token)
        if choice is not None:
            yield from token_records(network, [token], choice)
        if ends(network.llm, prepared, ids):
            break
        yield from reader.read(ids, states)
    known = torch.stack(states) if states else prepared.embeddings.new_empty(0, prepared.embeddings.shape[-1])
    whole = whole_reply(network, prepared.rules, ids, known)
    if alternatives:
        yield from token_records(network, whole.ids[common_length(whole.ids, ids) :])
    yield from reader.read(whole.ids, list(whole.states), ended=True)


def _tokens(
    network: NextGPT, prepared: Prepared, decoding: Decoding, stop: Stop | None, alternatives: int
) -> Iterator[tuple[int, Tensor, Choice | None]]:
    """Yield each token of one reply, end token included, the state ``(H,)`` of the token before it, and the choice."""
    for steps in passes(network.llm, prepared, decoding, stop, alternatives):
        for step in steps:
            choices: list[Choice | None] = [*step.choices] or [None] * len(step.tokens)
            yield from zip(step.tokens, step.states, choices, strict=True)


class _Reader:
    """Splits the ids of a growing reply into pieces.

    Args:
        network: the model.
        prompt: the reply's prompt.

    """

    def __init__(self, network: NextGPT, prompt: Rendered) -> None:
        self._network, self._prompt, self._llm = network, prompt, network.llm
        self._signals = {i for ids in network.signal_ids().values() for i in ids}
        self._start = 0  # of the ids that are not yielded as a whole text or medium
        self._sent, self._counted = "", 0  # the part of their text that is yielded, and its number of tokens

    def read(self, ids: list[int], states: list[Tensor], *, ended: bool = False) -> Iterator[Piece]:
        """The pieces that can be yielded now.

        Args:
            ids: all ids of the reply.
            states: hidden states ``(H,)`` of the first of them.
            ended: whether no id follows.

        """
        ids = ids if ended else self._certain(ids)
        while self._start < len(ids):
            stop = next((i for i in range(self._start, len(ids)) if ids[i] in self._signals), len(ids))
            yield from self._text(ids[self._start : stop], whole=ended or stop < len(ids))
            span = next(iter(spans_of(self._network, ids[stop:], stop)), None)
            if span is None or (not ended and span.stop > len(states)):
                return
            reply = Generated(ids[: span.stop], torch.stack(states[: span.stop]) if states else torch.empty(0))
            row = written(self._network, self._prompt, reply)
            last = Written(replace(row.row, spans=row.row.spans[-1:]), row.states)
            self._start, self._sent, self._counted = span.stop, "", 0
            yield row.row.spans[-1], conditions(self._network, [last])[0][0]

    def _text(self, ids: list[int], *, whole: bool) -> Iterator[ReplyPart]:
        text = self._llm.tokenizer.decode(ids, skip_special_tokens=True).strip()
        if not whole:
            if getattr(self._llm.tokenizer, "clean_up_tokenization_spaces", False):
                text = text[: text.rfind(" ") + 1].rstrip()  # the next token may change the last word
            text = text.rstrip("\ufffd").rstrip()  # a character of which bytes are missing
        if len(text) > len(self._sent):
            yield ReplyPart("text", text=text[len(self._sent) :], tokens=len(ids) - self._counted)
            self._sent, self._counted = text, len(ids)

    def _certain(self, ids: list[int]) -> list[int]:
        """The leading ids that no stop string that has begun at their end can remove."""
        decode = self._llm.tokenizer.decode
        text = decode(ids) if self._llm.stop else ""
        begun = [
            len(text) - length
            for stop in self._llm.stop
            for length in range(1, len(stop))
            if text.endswith(stop[:length])
        ]
        return tokens_before(ids, min(begun), decode) if begun else ids
