"""Generate replies with complete signal spans. This module does not import Lightning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nextgpt_pl.batches import Rendered
from nextgpt_pl.dialogue.signal_spans import SpanRules
from nextgpt_pl.generation.decoding import Decoding
from nextgpt_pl.generation.prepared import prepare, truncated
from nextgpt_pl.generation.stopping import Stop
from nextgpt_pl.generation.token_passes import passes
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


@torch.no_grad()
def generate(
    network: NextGPT, prompts: Sequence[Rendered], decoding: Decoding | None = None, stop: Stop | None = None
) -> list[Generated]:
    """The reply to each prompt.

    Prompt and reply never exceed the LLM's context length. If the longest prompt leaves fewer than ``max_new_tokens``
    tokens, all replies of the batch are limited to that number.

    Raises:
        UserError: a prompt fills the LLM's context.
        StoppedError: ``stop``, which is called after each pass of the LLM, has returned true.

    """
    decoding = decoding or Decoding()
    prepared = prepare(network, prompts, decoding)
    ids: list[list[int]] = [[] for _ in prompts]
    states: list[list[Tensor]] = [[] for _ in prompts]
    for steps in passes(network.llm, prepared, decoding, stop):
        for step in steps:
            ids[step.row] += step.tokens
            states[step.row].append(step.states)
    # the first state is the prompt's
    known = [torch.cat(own)[1:] for own in states]
    return [whole_reply(network, prepared.rules, *reply) for reply in zip(ids, known, strict=True)]


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
