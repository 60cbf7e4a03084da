"""Token ids written in a batch that shrinks: rows that have ended leave it, once that pays.

transformers' ``generate`` runs every row until the longest has ended. Imports no Lightning.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessor, LogitsProcessorList, StoppingCriteria, StoppingCriteriaList


class Waste(StoppingCriteria):
    """Stops all rows when those that have ended have cost as many steps as reading the others anew will.

    So whatever follows, at most twice as much is spent as by who knows beforehand how long each row gets.

    Args:
        ends: token ids that end a row.
        read: tokens of a row before it was written on.

    """

    def __init__(self, ends: Tensor, read: int) -> None:
        self.ends, self.read = ends, read
        self.wasted = 0
        self.exceeded = False

    def __call__(self, input_ids: Tensor, scores: Tensor, **_: Any) -> Tensor:
        """Whether each row ``(N,)`` stops after ``input_ids (N, T)``, which hold what was written in this call."""
        ended = int(_ended(input_ids, self.ends).sum())
        going = len(input_ids) - ended
        self.wasted += ended
        self.exceeded = going > 0 and self.wasted > going * (self.read + input_ids.shape[1])
        return torch.full((len(input_ids),), self.exceeded, device=input_ids.device)


class _After(LogitsProcessor):
    """Rules that are told what was written in earlier calls too."""

    def __init__(self, written: Tensor, rules: LogitsProcessor) -> None:
        self.written, self.rules = written, rules

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        return self.rules(torch.cat([self.written, input_ids], 1), scores)


def write(
    generate: Callable[..., Tensor],
    embed: Callable[[Tensor], Tensor],
    embeddings: Tensor,
    mask: Tensor,
    rules: LogitsProcessor,
    ends: tuple[int, ...],
    limit: int,
    shrink: bool = True,
) -> list[list[int]]:
    """The ids that follow each row, up to and with what ended it; padding may come after.

    Args:
        generate: transformers' ``generate``, given all that is not given here.
        embed: token ids ``(N, T)`` to embeddings ``(N, T, H)``.
        embeddings: prompts ``(N, T, H)``, padded left.
        mask: ``(N, T)``, 0 at padding.
        rules: sees what was written, ``(N, T)``, and no prompt.
        ends: token ids that end a row.
        limit: most tokens that are written for a row.
        shrink: whether rows may leave; not where a pass is a collective.

    """
    ending = torch.tensor(ends, dtype=torch.long, device=mask.device)
    rows = torch.arange(len(mask), device=mask.device)
    written = rows.new_empty((len(rows), 0))
    replies: list[list[int]] = [[] for _ in rows]
    while True:
        waste = Waste(ending, embeddings.shape[1])
        out = generate(
            inputs_embeds=embeddings,
            attention_mask=mask,
            max_new_tokens=limit - written.shape[1],
            logits_processor=LogitsProcessorList([_After(written, rules)]),
            stopping_criteria=StoppingCriteriaList([waste] if shrink else []),
        )
        written = torch.cat([written, out], 1)
        for row, ids in zip(rows.tolist(), written.tolist(), strict=True):
            replies[row] = ids
        if not waste.exceeded or written.shape[1] >= limit:
            return replies
        going = ~_ended(out, ending)
        rows, written, out = rows[going], written[going], out[going]
        mask = torch.cat([mask[going], torch.ones_like(out)], 1)
        embeddings = torch.cat([embeddings[going], embed(out).to(embeddings.dtype)], 1)
        used = int(mask.any(0).int().argmax())  # the longest prompt may have left
        mask, embeddings = mask[:, used:], embeddings[:, used:]


def _ended(ids: Tensor, ends: Tensor) -> Tensor:
    return torch.isin(ids, ends).any(1)
