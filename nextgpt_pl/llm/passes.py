"""Passes of the LLM over a batch: by groups of rows of similar length, with a frozen prefix, or packed.

Shapes: B rows, T tokens, H LLM width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from nextgpt_pl.batches import Batch
from nextgpt_pl.errors import UserError
from nextgpt_pl.llm.packing import packed_pass
from nextgpt_pl.utils.transfer import upload


@dataclass(frozen=True)
class Passes:
    """Divides a batch into forward passes; the hidden states do not depend on it.

    Attributes:
        groups: number of groups of rows. Each is one pass, without the padding that the other groups need.
        frozen_prefix: run the positions before the first trainable embedding without an autograd graph.
        packing: one pass over all rows, joined without padding; see :mod:`nextgpt_pl.llm.packing`.

    Raises:
        UserError: there is no group, or packing is combined with another division.

    """

    groups: int = 1
    frozen_prefix: bool = False
    packing: bool = False

    def __post_init__(self) -> None:
        if self.groups < 1:
            raise UserError(f"llm.length_groups={self.groups}: at least 1")
        if self.packing and (self.frozen_prefix or self.groups > 1):
            raise UserError("llm.packing excludes llm.frozen_prefix and llm.length_groups above 1: it needs one pass")

    def __call__(
        self, base: Any, embeddings: Tensor, lengths: Sequence[int] | None, frozen: Sequence[int] | None
    ) -> Tensor:
        """Hidden states ``(B, T, H)`` after the final norm.

        Args:
            base: transformer of a model of the transformers library, without its head.
            embeddings: ``(B, T, H)``.
            lengths: per row, the number of tokens without padding; by default T.
            frozen: per row, the number of leading positions with frozen embeddings; ``None``: no prefix is frozen.

        """
        if self.packing and lengths is not None:
            return packed_pass(base, embeddings, lengths)
        if self.groups == 1 and not self.frozen_prefix:
            return one_pass(base, embeddings, 0)
        count, total, _ = embeddings.shape
        lengths = [total] * count if lengths is None else lengths
        order = torch.tensor(lengths).argsort(descending=True, stable=True)
        states = []
        for rows in order.tensor_split(min(self.groups, count)):
            longest = max(lengths[i] for i in rows.tolist())
            prefix = 0 if frozen is None else min(longest - 1, *(frozen[i] for i in rows.tolist()))
            of_group = one_pass(base, embeddings[upload(rows, embeddings.device), :longest], prefix)
            states.append(F.pad(of_group, (0, 0, 0, total - longest)))
        return torch.cat(states)[upload(order.argsort(), embeddings.device)]


def one_pass(base: Any, embeddings: Tensor, prefix: int) -> Tensor:
    """Hidden states of one forward pass; its first ``prefix`` positions have no autograd graph."""
    cache, first = {}, []
    if prefix:
        with torch.no_grad():
            start = base(inputs_embeds=embeddings[:, :prefix], use_cache=True)
        # the name differs between versions of transformers
        name = "cache" if "cache" in start else "past_key_values"
        cache, first = {name: start[name]}, [start.last_hidden_state]
    rest = base(inputs_embeds=embeddings[:, prefix:], use_cache=bool(prefix), **cache).last_hidden_state
    return torch.cat([*first, rest], dim=1) if first else rest


def frozen_lengths(batch: Batch, first_signal_id: int) -> list[int]:
    """Number of positions of each row before the first trainable embedding.

    Trainable embeddings are those of signal tokens, also in earlier turns and around captions, and of media slots.
    """
    signals = (batch.on_host().input_ids >= first_signal_id).int()
    firsts = torch.where(signals.any(1), signals.argmax(1), signals.shape[1]).tolist()
    frozen = [min(pair) for pair in zip(batch.lengths(), firsts, strict=True)]
    for row, slot in (entry for slots in batch.slots.values() for entry in slots):
        frozen[row] = min(frozen[row], slot.start)
    return frozen
