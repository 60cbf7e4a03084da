"""Batched generation that removes finished rows when this saves time.

transformers' ``generate`` computes every row until the longest one is finished. This module does not import Lightning.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessor, LogitsProcessorList, StoppingCriteria, StoppingCriteriaList

from nextgpt_pl.generation.stopping import Stop, StopTokens


class Waste(StoppingCriteria):
    """Stops generation once finished rows have cost as many steps as the remaining rows' prefill will cost.

    The total cost is at most twice that of an algorithm that knows the length of each row in advance.

    Args:
        ends: token ids that end a row.
        read: number of tokens of a row before generation.

    """

    def __init__(self, ends: Tensor, read: int) -> None:
        self.ends, self.read = ends, read
        self.wasted = 0
        self.exceeded = False

    def __call__(self, input_ids: Tensor, scores: Tensor, **_: Any) -> Tensor:
        """Whether each row stops, ``(N,)``; ``input_ids (N, T)`` are the tokens generated in this call."""
        ended = int(_ended(input_ids, self.ends).sum())
        active = len(input_ids) - ended
        self.wasted += ended
        self.exceeded = active > 0 and self.wasted > active * (self.read + input_ids.shape[1])
        return torch.full((len(input_ids),), self.exceeded, device=input_ids.device)


class _After(LogitsProcessor):
    """Passes the tokens of earlier calls to the constraints as well."""

    def __init__(self, written: Tensor, rules: LogitsProcessor) -> None:
        self.written, self.rules = written, rules

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        return self.rules(torch.cat([self.written, input_ids], 1), scores)


def write(
    generate: Callable[..., Tensor],
    embed: Callable[[Tensor], Tensor],
    record: Callable[[], AbstractContextManager[list[Tensor]]],
    embeddings: Tensor,
    mask: Tensor,
    rules: LogitsProcessor,
    ends: tuple[int, ...],
    limit: int,
    shrink: bool = True,
    stop: Stop | None = None,
) -> list[tuple[list[int], Tensor]]:
    """Generate the token ids of each row's reply, including its end token; padding may follow.

    Args:
        generate: transformers' ``generate`` with all other arguments bound.
        embed: maps token ids ``(N, T)`` to embeddings ``(N, T, H)``.
        record: context that records the states of the last position of each forward pass, see
            :func:`~nextgpt_pl.llm.recording.recorded`.
        embeddings: prompts ``(N, T, H)``, padded left.
        mask: ``(N, T)``, 0 at padding.
        rules: constraints; they receive the generated tokens ``(N, T)`` without the prompt.
        ends: token ids that end a row.
        limit: maximum number of generated tokens per row.
        shrink: whether finished rows may be removed; must be false if forward passes are collective.
        stop: called once per token; when it returns true, :class:`StoppedError` is raised.

    Returns:
        Per row its T ids and the hidden states ``(T - 1, H)`` of all but the last, which no pass has read.

    """
    stopping = [] if stop is None else [StopTokens(stop)]
    ending = torch.tensor(ends, dtype=torch.long, device=mask.device)
    rows = torch.arange(len(mask), device=mask.device)
    written = rows.new_empty((len(rows), 0))
    states = embeddings.new_empty((len(rows), 0, embeddings.shape[2]))
    replies: list[tuple[list[int], Tensor]] = [([], states[0])] * len(rows)
    while True:
        waste = Waste(ending, embeddings.shape[1])
        with record() as passes:
            out = generate(
                inputs_embeds=embeddings,
                attention_mask=mask,
                max_new_tokens=limit - written.shape[1],
                logits_processor=LogitsProcessorList([_After(written, rules)]),
                stopping_criteria=StoppingCriteriaList([*([waste] if shrink else []), *stopping]),
            )
        written = torch.cat([written, out], 1)
        # the pass that chooses a token reads the one before it; there may be more passes than tokens
        states = torch.cat([states, torch.stack(passes[: out.shape[1]], 1).to(states.dtype)], 1)
        for row, ids, own in zip(rows.tolist(), written.tolist(), states, strict=True):
            replies[row] = (ids, own[1:])
        if not waste.exceeded or written.shape[1] >= limit:
            return replies
        active = ~_ended(out, ending)
        rows, written, states, out = rows[active], written[active], states[active], out[active]
        mask = torch.cat([mask[active], torch.ones_like(out)], 1)
        embeddings = torch.cat([embeddings[active], embed(out).to(embeddings.dtype)], 1)
        first_used = int(mask.any(0).int().argmax())  # the longest prompt may have left
        mask, embeddings = mask[:, first_used:], embeddings[:, first_used:]


def _ended(ids: Tensor, ends: Tensor) -> Tensor:
    return torch.isin(ids, ends).any(1)
