"""What generation needs of a batch of prompts, and where replies end. This module does not import Lightning."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from nextgpt_pl.batches import Batch, Rendered
from nextgpt_pl.dialogue.batching import pad
from nextgpt_pl.dialogue.signal_spans import SpanRules
from nextgpt_pl.errors import UserError
from nextgpt_pl.generation.decoding import Decoding
from nextgpt_pl.llm import CausalLM
from nextgpt_pl.model import NextGPT
from nextgpt_pl.utils.transfer import upload


@dataclass(frozen=True)
class Prepared:
    """What generation needs of a batch of prompts.

    Attributes:
        embeddings: ``(N, T, H)``, padded left.
        lengths: number of tokens of each prompt.
        rules: constraints on signal tokens.
        limit: maximum number of generated tokens per row.
        generate: transformers' ``generate`` with the arguments that all calls share.

    """

    embeddings: Tensor
    lengths: list[int]
    rules: SpanRules
    limit: int
    generate: Callable[..., Any]


def prompt_of(row: Rendered) -> Rendered:
    """The prompt of a rendered item: everything before its first label."""
    end = row.first_label
    slots = tuple(slot for slot in row.slots if slot.stop <= end)
    return Rendered(row.input_ids[:end], row.labels[:end], slots, (), row.key, row.attributes)


def batch_of(network: NextGPT, rows: Sequence[Rendered]) -> Batch:
    """Pad rows to a batch on the LLM's device."""
    return pad(rows, int(network.llm.tokenizer.pad_token_id)).to(next(network.llm.parameters()).device)


@torch.no_grad()
def prepare(network: NextGPT, prompts: Sequence[Rendered], decoding: Decoding) -> Prepared:
    """Embed prompts and bind the arguments of generation.

    Raises:
        UserError: a prompt fills the LLM's context.

    """
    limit = _room(network, prompts, decoding.max_new_tokens)
    batch = batch_of(network, prompts)
    lengths = batch.lengths()
    embeddings = _padded_left(network.embed(batch), lengths)
    rules = _rules(network, decoding)
    network.llm.read_layers()
    generate = partial(
        network.llm.model.generate,
        eos_token_id=list(rules.end_ids),
        pad_token_id=int(network.llm.tokenizer.pad_token_id),
        **decoding.sampling(),
    )
    return Prepared(embeddings, lengths, rules, limit, generate)


def truncated(ids: list[int], stops: Sequence[str], decode: Callable[[list[int]], str]) -> list[int]:
    """The tokens before the first stop string, which may begin or end inside a token."""
    text = decode(ids) if stops else ""
    positions = [position for stop in stops if (position := text.find(stop)) >= 0]
    return tokens_before(ids, min(positions), decode) if positions else ids


def tokens_before(ids: list[int], position: int, decode: Callable[[list[int]], str]) -> list[int]:
    """The leading tokens whose text ends at a character's position or before."""
    count = len(ids)
    while len(decode(ids[:count])) > position:
        count -= 1
    return ids[:count]


def ends(llm: CausalLM, prepared: Prepared, ids: Sequence[int]) -> bool:
    """Whether a reply ends with these tokens: the last one is an end token, or the last ones contain a stop string."""
    if ids[-1] in prepared.rules.end_ids:
        return True
    if not llm.stop:
        return False
    longest = max(len(stop.encode()) for stop in llm.stop)
    # a token is at least one byte, except for a few that are not text
    text = llm.tokenizer.decode(ids[-2 * longest - 8 :])
    return any(stop in text for stop in llm.stop)


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


def _padded_left(embeddings: Tensor, lengths: Sequence[int]) -> Tensor:
    """Convert right padding to left padding, which generation requires."""
    width = embeddings.shape[1]
    shifts = width - torch.tensor(lengths)
    columns = upload((torch.arange(width) - shifts.unsqueeze(1)) % width, embeddings.device)
    rows = torch.arange(len(lengths), device=embeddings.device).unsqueeze(1)
    return embeddings[rows, columns]


def _rules(network: NextGPT, decoding: Decoding) -> SpanRules:
    modalities = tuple(network.decoders) if decoding.modalities is None else tuple(decoding.modalities)
    required = modalities if decoding.modalities is not None else ()
    return network.reply_media.rules(network.span_ids(), frozenset(modalities), required, network.llm.end_ids)
