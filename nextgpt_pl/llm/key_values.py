"""Keys and values of a batch whose rows have read different numbers of tokens, for passes of several tokens per row.

Shapes: N rows, C columns of the cache, of which each row uses some; a pass reads W new columns.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import DynamicLayer

from nextgpt_pl.llm.recording import recorded
from nextgpt_pl.utils.transfer import upload


class KeyValues:
    """Runs a model of the transformers library and keeps its cache.

    In each pass a row reads its own number of tokens; the other columns of the pass are masked. :meth:`compact` removes
    rows and masked columns.

    Args:
        model: a causal LM.
        pad_token_id: id at masked columns.

    """

    def __init__(self, model: Any, pad_token_id: int) -> None:
        self._model, self._pad = model, pad_token_id
        self._accepted = inspect.signature(model.forward).parameters
        self._cache: dict[str, Any] = {}
        self._mask = torch.empty(0)
        self._read: list[int] = []  # tokens of each row

    @property
    def ragged(self) -> bool:
        """Whether rows may read different numbers of tokens in a pass; false before the prompts are read.

        Sliding windows and recurrent states count masked columns as tokens.
        """
        layers = [layer for cache in self._cache.values() for layer in getattr(cache, "layers", ())]
        return bool(layers) and all(type(layer) is DynamicLayer for layer in layers)

    @torch.no_grad()
    def read_prompts(self, embeddings: Tensor, lengths: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Logits ``(N, 1, V)`` and states ``(N, 1, H)`` of the last position of each prompt.

        Args:
            embeddings: ``(N, T, H)``, padded left.
            lengths: number of tokens of each prompt.

        """
        width = embeddings.shape[1]
        self._read = [0] * len(lengths)
        self._extend([[1] * length for length in lengths], width, embeddings.device)
        return self._pass({"inputs_embeds": embeddings}, width, 1, 1)

    @torch.no_grad()
    def read(self, tokens: Sequence[Sequence[int]], logits: bool = False) -> tuple[Tensor, Tensor]:
        """Logits ``(N, W or 1, V)`` and states ``(N, W, H)``; those of a row with k tokens are the last k.

        Args:
            tokens: those that each row reads, W at most; none at all for a row that is finished.
            logits: return the logits of all positions; by default those of the last one.

        """
        width = max(1, *map(len, tokens))
        device = self._mask.device
        ids = [[self._pad] * (width - len(own)) + list(own) for own in tokens]
        self._extend([[1] * len(own) for own in tokens], width, device)
        inputs = {"input_ids": upload(torch.tensor(ids), device)}
        return self._pass(inputs, width, width, width if logits else 1)

    def _extend(self, used: Sequence[Sequence[int]], width: int, device: torch.device) -> None:
        """Add the columns of a pass to the mask, used ones on the right."""
        new = upload(torch.tensor([[0] * (width - len(own)) + list(own) for own in used]), device)
        self._mask = torch.cat([self._mask, new], 1) if len(self._mask) else new
        self._read = [before + len(own) for before, own in zip(self._read, used, strict=True)]

    def _pass(self, inputs: dict[str, Any], width: int, states: int, logits: int) -> tuple[Tensor, Tensor]:
        if min(self._read) < self._mask.shape[1]:  # without a mask, kernels are faster
            inputs["attention_mask"] = self._mask
            if "position_ids" in self._accepted:
                inputs["position_ids"] = (self._mask.cumsum(1)[:, -width:] - 1).clamp(min=0)
        if "logits_to_keep" in self._accepted:
            inputs["logits_to_keep"] = logits
        with recorded(self._model.base_model, states) as passed:
            out = self._model(**inputs, **self._cache, use_cache=True, return_dict=True)
        # the name differs between versions of transformers
        name = "cache" if "cache" in out else "past_key_values"
        self._cache = {name: out[name]}
        return out.logits[:, -logits:].float(), passed[-1]

    def wasteful(self, rows: Sequence[int]) -> bool:
        """Whether :meth:`compact` would save more than it costs: a copy of the cache, as each pass makes one."""
        columns, longest = self._mask.shape[1], max(self._read[row] for row in rows)
        return len(self._read) >= 1.25 * len(rows) or columns >= 1.25 * longest

    @torch.no_grad()
    def compact(self, rows: Sequence[int]) -> None:
        """Keep these rows only, and of their columns those that one of them needs; for :attr:`ragged` caches."""
        (cache,) = self._cache.values()
        self._read = [self._read[row] for row in rows]
        kept = upload(torch.tensor(rows), self._mask.device)
        mask = self._mask[kept]
        order = mask.argsort(dim=1, stable=True)[:, mask.shape[1] - max(self._read) :]
        self._mask = mask.gather(1, order)
        for layer in cache.layers:
            layer.keys, layer.values = (
                t[kept.unsqueeze(1), :, order].transpose(1, 2) for t in (layer.keys, layer.values)
            )
