"""Generate replies with complete signal spans. This module does not import Lightning."""

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
from nextgpt_pl.generation.shrinking_batch import write
from nextgpt_pl.generation.stopping import Stop
from nextgpt_pl.llm.recording import recorded
from nextgpt_pl.model import NextGPT


@dataclass(frozen=True)
class Generated:
    """A reply, without the token that ended it.

    Attributes:
        ids: T token ids.
        states: ``(T', H)`` final hidden states of the first T' tokens, as generation has computed them. T' is less than
            T if tokens were added to complete the reply.

    """

    ids: list[int]
    states: Tensor


@dataclass(frozen=True)
class Prepared:
    """What generation needs of a batch of prompts.

    Attributes:
        embeddings: ``(N, T, H)``, padded left.
        mask: ``(N, T)``, 0 at padding.
        rules: constraints on signal tokens.
        limit: maximum number of generated tokens per row.
        generate: transformers' ``generate`` with the arguments that all calls share.

    """

    embeddings: Tensor
    mask: Tensor
    rules: SpanRules
    limit: int
    generate: Callable[..., Any]


def prompt_of(row: Rendered) -> Rendered:
    """The prompt of a rendered item: everything before its first label."""
    end = row.first_label
    slots = tuple(slot for slot in row.slots if slot.stop <= end)
    return Rendered(row.input_ids[:end], row.labels[:end], slots, (), row.key, row.attributes)


def end_ids(network: NextGPT) -> tuple[int, ...]:
    """Ids that end an assistant's turn."""
    configured = getattr(network.llm.model.generation_config, "eos_token_id", None)
    ids = configured if isinstance(configured, list) else [configured]
    return tuple(sorted({int(i) for i in [*ids, network.llm.tokenizer.eos_token_id] if i is not None}))


def batch_of(network: NextGPT, rows: Sequence[Rendered]) -> Batch:
    """Pad rows to a batch on the LLM's device."""
    return pad(rows, int(network.llm.tokenizer.pad_token_id)).to(next(network.llm.parameters()).device)


def prepare(network: NextGPT, prompts: Sequence[Rendered], decoding: Decoding) -> Prepared:
    """Embed prompts and bind the arguments of generation.

    Raises:
        UserError: a prompt fills the LLM's context.

    """
    limit = _room(network, prompts, decoding.max_new_tokens)
    batch = batch_of(network, prompts)
    embeddings, mask = _padded_left(network.embed(batch), batch.attention_mask)
    rules = _rules(network, decoding)
    network.llm.read_layers()
    generate = partial(
        network.llm.model.generate,
        eos_token_id=list(rules.end_ids),
        pad_token_id=int(network.llm.tokenizer.pad_token_id),
        **decoding.sampling(),
    )
    return Prepared(embeddings, mask.long(), rules, limit, generate)


@torch.no_grad()
def generate(
    network: NextGPT, prompts: Sequence[Rendered], decoding: Decoding | None = None, stop: Stop | None = None
) -> list[Generated]:
    """The reply to each prompt.

    Prompt and reply never exceed the LLM's context length. If the longest prompt leaves fewer than ``max_new_tokens``
    tokens, all replies of the batch are limited to that number.

    Raises:
        UserError: a prompt fills the LLM's context.
        StoppedError: ``stop``, which is called once per token, has returned true.

    """
    decoding = decoding or Decoding()
    prepared, llm = prepare(network, prompts, decoding), network.llm
    stop_strings = {"stop_strings": llm.stop, "tokenizer": llm.tokenizer} if llm.stop else {}
    # a stop string may begin before a row continues in a smaller batch, where it would not be detected
    shrink = not stop_strings and not llm.collective
    devices = [prepared.embeddings.device] if prepared.embeddings.is_cuda else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(decoding.seed)
        out = write(
            partial(prepared.generate, synced_gpus=llm.collective, **stop_strings),
            llm.embed,
            partial(recorded, llm.model.base_model),
            prepared.embeddings,
            prepared.mask,
            prepared.rules,
            prepared.rules.end_ids,
            prepared.limit,
            shrink,
            stop,
        )
    return [whole_reply(network, prepared.rules, ids, states) for ids, states in out]


def whole_reply(network: NextGPT, rules: SpanRules, ids: list[int], states: Tensor) -> Generated:
    """A reply up to its end token or stop string, with complete spans and all required media.

    Args:
        network: the model.
        rules: constraints on signal tokens.
        ids: generated ids.
        states: ``(T, H)`` of the first of them.

    """
    whole = rules.whole_reply(truncated(ids, network.llm.stop, network.llm.tokenizer.decode))
    return Generated(whole, states[: common_length(whole, ids)])


def common_length(ids: Sequence[int], other: Sequence[int]) -> int:
    """The number of leading ids that two lists have in common."""
    pairs = enumerate(zip(ids, other, strict=False))
    return next((i for i, (one, two) in pairs if one != two), min(len(ids), len(other)))


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


def _padded_left(embeddings: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Convert right padding to left padding, which generation requires."""
    width = mask.shape[1]
    shifts = width - mask.sum(1)
    columns = (torch.arange(width, device=mask.device) - shifts.unsqueeze(1)) % width
    rows = torch.arange(len(mask), device=mask.device).unsqueeze(1)
    return embeddings[rows, columns], mask[rows, columns]


def _rules(network: NextGPT, decoding: Decoding) -> SpanRules:
    modalities = tuple(network.decoders) if decoding.modalities is None else tuple(decoding.modalities)
    required = modalities if decoding.modalities is not None else ()
    return network.reply_media.rules(network.span_ids(), frozenset(modalities), required, end_ids(network))
