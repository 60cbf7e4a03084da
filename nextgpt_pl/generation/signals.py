"""Media that a reply asks for: their spans, and the caption embeddings or words that they pass to the decoders.

Shapes: S spans of one modality, K signal tokens per span, H LLM width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from torch import Tensor

from nextgpt_pl.batches import IGNORE, Rendered, SignalSpan
from nextgpt_pl.generation.generate import Generated
from nextgpt_pl.generation.prepared import batch_of
from nextgpt_pl.modality import Modality
from nextgpt_pl.model import NextGPT
from nextgpt_pl.utils.transfer import upload

#: what a decoder is told: a caption embedding, or words
Condition = Tensor | str


@dataclass(frozen=True)
class Written:
    """A prompt with the LLM's reply.

    Attributes:
        row: token ids of both; its labels and spans are those of the reply.
        states: ``(T', H)`` final hidden states of the reply's first T' tokens; by default of none.

    """

    row: Rendered
    states: Tensor = field(default_factory=lambda: torch.empty(0))

    @property
    def has_states(self) -> bool:
        """Whether the states of all signal tokens are known."""
        known = self.row.first_label + len(self.states)
        return all(span.stop <= known for span in self.row.spans)


def spans_of(network: NextGPT, ids: Sequence[int], offset: int = 0) -> list[SignalSpan]:
    """The media that generated ids ask for, in order; positions start at ``offset``."""
    span_ids = network.span_ids()
    signal_ids = {m: span_ids[m] for m in network.decoders}
    decode = partial(network.llm.tokenizer.decode, skip_special_tokens=True)
    return network.reply_media.find(ids, signal_ids, decode, offset)


def written(network: NextGPT, prompt: Rendered, reply: Generated) -> Written:
    """A prompt and its reply as one row."""
    count, ids = len(prompt.input_ids), reply.ids
    row = replace(
        prompt,
        input_ids=[*prompt.input_ids, *ids],
        labels=[IGNORE] * count + ids,
        spans=tuple(spans_of(network, ids, count)),
    )
    return Written(row, reply.states)


def conditions(network: NextGPT, replies: Sequence[Written]) -> list[list[Condition]]:
    """What the decoder of each span of each reply is told: a caption embedding, or the words."""
    embeddings = caption_embeddings(network, replies)
    return [
        [
            span.caption if network.decoders[span.modality].takes_words else embedding
            for span, embedding in zip(reply.row.spans, of_reply, strict=True)
        ]
        for reply, of_reply in zip(replies, embeddings, strict=True)
    ]


@torch.no_grad()
def caption_embeddings(network: NextGPT, replies: Sequence[Written]) -> list[list[Tensor]]:
    """Caption embedding of each span of each reply, in the order of the spans; empty where the decoder takes words.

    They are projected from the hidden states of generation. Replies with signal tokens that generation has not read,
    since they were added to a reply that was cut off, take one forward pass over prompt and reply. Captions that the
    LLM has written are embedded by the decoders' text encoders.
    """
    rows = [reply.row for reply in replies]
    embeddings: list[list[Tensor]] = [[torch.empty(0)] * len(row.spans) for row in rows]
    places = _by_modality(network, rows)
    states = _span_states(network, replies) if any(m in network.projected for m in places) else []
    for modality, of_modality in places.items():
        if modality in network.projected:
            values = _projected(network, modality, rows, states, of_modality)
        else:
            captions = [rows[r].spans[s].caption for r, s in of_modality]
            values = network.caption_embeddings(modality, captions)
        for (r, s), value in zip(of_modality, values, strict=True):
            embeddings[r][s] = value
    return embeddings


def _projected(
    network: NextGPT,
    modality: Modality,
    rows: Sequence[Rendered],
    states: Sequence[Sequence[Tensor]],
    places: Sequence[tuple[int, int]],
) -> Tensor:
    """Projected spans of a modality ``(S, *embedding_shape)``, given by row and number."""
    hidden = torch.stack([states[r][s] for r, s in places]).float()
    spans = [(rows[r].input_ids, rows[r].spans[s]) for r, s in places]
    ids = torch.tensor([row_ids[span.start : span.stop] for row_ids, span in spans])
    projected = network.project_signals(modality, hidden, network.llm.embed(upload(ids, hidden.device)).float())
    return projected.view(-1, *network.decoders[modality].embedding_shape)


def _by_modality(network: NextGPT, rows: Sequence[Rendered]) -> dict[Modality, list[tuple[int, int]]]:
    """Per modality with caption embeddings of the rows' spans: row and number of each span."""
    places = {
        m: [(r, s) for r, row in enumerate(rows) for s, span in enumerate(row.spans) if span.modality is m]
        for m in network.embedded
    }
    return {modality: found for modality, found in places.items() if found}


def _span_states(network: NextGPT, replies: Sequence[Written]) -> list[list[Tensor]]:
    """Per reply, the hidden states ``(K, H)`` of each span."""
    read = [reply.row for reply in replies if not reply.has_states]
    batch = batch_of(network, read) if read else None
    passed: Iterator[Tensor] = iter(() if batch is None else network.hidden_states(batch, network.embed(batch)))
    found = []
    for reply in replies:
        states, offset = (reply.states, reply.row.first_label) if reply.has_states else (next(passed), 0)
        found.append([states[span.start - offset : span.stop - offset] for span in reply.row.spans])
    return found
