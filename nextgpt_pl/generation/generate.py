"""Generate replies with complete signal spans, and the caption embeddings that they pass to the decoders.

This module does not import Lightning.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from numbers import Integral, Real
from typing import Any

import torch
from torch import Tensor

from nextgpt_pl.batches import IGNORE, Batch, Rendered, SignalSpan
from nextgpt_pl.dialogue.batching import pad
from nextgpt_pl.dialogue.signal_spans import SpanRules
from nextgpt_pl.errors import UserError
from nextgpt_pl.generation.shrinking_batch import write
from nextgpt_pl.modality import Modality
from nextgpt_pl.model import NextGPT

_SEEDS = 2**62  # seeds above are used for the media of a reply


@dataclass
class Decoding:
    """Decoding options.

    Args:
        max_new_tokens: maximum number of tokens of a reply.
        temperature: sampling temperature; 0 is greedy decoding.
        top_p: nucleus sampling: cumulative probability of the tokens that are sampled from.
        seed: seed of the sampling.
        modalities: media that a reply contains: each of these at least once, and no others. ``None``: the model
            decides; an empty list: no media.

    Raises:
        UserError: a value is not a number or out of bounds.

    """

    max_new_tokens: int = 160
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    modalities: Sequence[Modality] | None = None

    def __post_init__(self) -> None:
        if not _is_integer(self.max_new_tokens) or self.max_new_tokens < 1:
            raise UserError(f"max_new_tokens={self.max_new_tokens!r}: a whole number of tokens, at least 1")
        if not _is_number(self.temperature) or self.temperature < 0:
            raise UserError(f"temperature={self.temperature!r}: a number, 0 or above")
        if not _is_number(self.top_p) or not 0 < self.top_p <= 1:
            raise UserError(f"top_p={self.top_p!r}: a share of the probability, above 0 and at most 1")
        check_seed(self.seed)

    def sampling(self) -> dict[str, Any]:
        """Arguments of transformers' ``generate``."""
        if self.temperature <= 0:
            return {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
        return {"do_sample": True, "temperature": self.temperature, "top_p": self.top_p, "top_k": 0}


def check_seed(seed: object, name: str = "seed") -> None:
    """Raise a :class:`UserError` if a value is not a valid seed."""
    if not _is_integer(seed) or not 0 <= int(seed) < _SEEDS:  # type: ignore[call-overload]
        raise UserError(f"{name}={seed!r}: a whole number from 0 to {_SEEDS - 1}")


def _is_integer(value: object) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def prompt_of(row: Rendered) -> Rendered:
    """The prompt of a rendered item: everything before its first label."""
    end = next((i for i, label in enumerate(row.labels) if label != IGNORE), len(row.labels))
    slots = tuple(slot for slot in row.slots if slot.stop <= end)
    return Rendered(row.input_ids[:end], row.labels[:end], slots, (), row.key, row.attributes)


def end_ids(network: NextGPT) -> tuple[int, ...]:
    """Ids that end an assistant's turn."""
    configured = getattr(network.llm.model.generation_config, "eos_token_id", None)
    ids = configured if isinstance(configured, list) else [configured]
    return tuple(sorted({int(i) for i in [*ids, network.llm.tokenizer.eos_token_id] if i is not None}))


def _batch(network: NextGPT, rows: Sequence[Rendered]) -> Batch:
    return pad(rows, int(network.llm.tokenizer.pad_token_id)).to(next(network.llm.parameters()).device)


@torch.no_grad()
def generate(network: NextGPT, prompts: Sequence[Rendered], decoding: Decoding | None = None) -> list[list[int]]:
    """Token ids of the reply to each prompt, without the token that ended it.

    Prompt and reply never exceed the LLM's context length. If the longest prompt leaves fewer than ``max_new_tokens``
    tokens, all replies of the batch are limited to that number.

    Raises:
        UserError: a prompt fills the LLM's context.

    """
    decoding = decoding or Decoding()
    limit = _room(network, prompts, decoding.max_new_tokens)
    batch = _batch(network, prompts)
    embeddings, mask = _padded_left(network.embed(batch), batch.attention_mask)
    rules = _rules(network, decoding)
    network.llm.read_layers()
    devices = [embeddings.device] if embeddings.is_cuda else []
    stop = {"stop_strings": network.llm.stop, "tokenizer": network.llm.tokenizer} if network.llm.stop else {}
    writer = partial(
        network.llm.model.generate,
        eos_token_id=list(rules.end_ids),
        pad_token_id=int(network.llm.tokenizer.pad_token_id),
        synced_gpus=network.llm.collective,
        **decoding.sampling(),
        **stop,
    )
    # a stop string may begin before a row continues in a smaller batch, where it would not be detected
    shrink = not stop and not network.llm.collective
    with torch.random.fork_rng(devices):
        torch.manual_seed(decoding.seed)
        out = write(writer, network.llm.embed, embeddings, mask.long(), rules, rules.end_ids, limit, shrink)
    replies = [_truncated(ids, network.llm.stop, network.llm.tokenizer.decode) for ids in out]
    return [rules.whole_reply(ids) for ids in replies]


def _room(network: NextGPT, prompts: Sequence[Rendered], max_new_tokens: int) -> int:
    """The maximum number of tokens of the replies."""
    context = network.llm.context_length
    if context is None:
        return max_new_tokens
    longest = max(prompts, key=lambda prompt: len(prompt.input_ids))
    room = context - len(longest.input_ids)
    if room < 1:
        raise UserError(f"{longest.key}: a prompt of {len(longest.input_ids)} tokens, the LLM's context is {context}")
    return min(max_new_tokens, room)


def _truncated(ids: list[int], stops: Sequence[str], decode: Callable[[list[int]], str]) -> list[int]:
    """The tokens before the first stop string, which may begin or end inside a token."""
    text = decode(ids) if stops else ""
    positions = [position for stop in stops if (position := text.find(stop)) >= 0]
    count = len(ids)
    while positions and len(decode(ids[:count])) > min(positions):
        count -= 1
    return ids[:count]


def _padded_left(embeddings: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Convert right padding to left padding, which generation requires."""
    width = mask.shape[1]
    shifts = width - mask.sum(1)
    columns = (torch.arange(width, device=mask.device) - shifts.unsqueeze(1)) % width
    rows = torch.arange(len(mask), device=mask.device).unsqueeze(1)
    return embeddings[rows, columns], mask[rows, columns]


def spans_of(network: NextGPT, ids: Sequence[int], offset: int = 0) -> list[SignalSpan]:
    """The media that generated ids ask for, in order; positions start at ``offset``."""
    span_ids = network.span_ids()
    signal_ids = {m: span_ids[m] for m in network.decoders}
    return network.reply_media.find(ids, signal_ids, network.llm.tokenizer.decode, offset)


def _rules(network: NextGPT, decoding: Decoding) -> SpanRules:
    modalities = tuple(network.decoders) if decoding.modalities is None else tuple(decoding.modalities)
    required = modalities if decoding.modalities is not None else ()
    return network.reply_media.rules(network.span_ids(), frozenset(modalities), required, end_ids(network))


@torch.no_grad()
def caption_embeddings(network: NextGPT, rows: Sequence[Rendered]) -> list[list[Tensor]]:
    """Caption embedding of each span of each row, in the order of the spans.

    Computed in one forward pass over prompt and reply, since generation does not return the hidden state of the last
    token. Captions that the LLM has written are embedded by the decoders' text encoders.
    """
    if not network.reply_media.projected:
        return _embed_captions(network, rows)
    batch = _batch(network, rows)
    if not batch.spans:
        return [[] for _ in rows]
    embeddings = network.embed(batch)
    hidden = network.hidden_states(batch, embeddings)
    by_position: dict[tuple[int, int], Tensor] = {}
    for modality, spans in batch.spans.items():
        projected = network.project(modality, hidden, embeddings, spans)
        shape = network.decoders[modality].embedding_shape
        on_host = batch.on_host().spans[modality]
        for row, start, value in zip(on_host.rows.tolist(), on_host.starts.tolist(), projected, strict=True):
            by_position[row, start] = value.view(shape)
    return [[by_position[index, span.start] for span in row.spans] for index, row in enumerate(rows)]


def _embed_captions(network: NextGPT, rows: Sequence[Rendered]) -> list[list[Tensor]]:
    row_embeddings: list[list[Tensor]] = [[torch.empty(0)] * len(row.spans) for row in rows]
    for modality in network.decoders:
        places = [(r, s) for r, row in enumerate(rows) for s, span in enumerate(row.spans) if span.modality is modality]
        if places:
            embeddings = network.caption_embeddings(modality, [rows[r].spans[s].caption for r, s in places])
            for (r, s), embedding in zip(places, embeddings, strict=True):
                row_embeddings[r][s] = embedding
    return row_embeddings
