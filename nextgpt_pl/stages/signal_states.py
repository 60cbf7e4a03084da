"""Cached outputs of a frozen LLM per row: its hidden states at the signal tokens, and its loss on the text.

For decoder alignment with frozen signal rows, where no part of the LLM is trained. With cached rows, an epoch runs the
output projections only.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nextgpt_pl.batches import IGNORE, Batch, Rendered, SignalSpan
from nextgpt_pl.dialogue.batching import pad
from nextgpt_pl.errors import UserError
from nextgpt_pl.features import Memory, Store
from nextgpt_pl.features.keys import digest, folder_sha256
from nextgpt_pl.modality import Modality
from nextgpt_pl.model import NextGPT
from nextgpt_pl.utils.distributed import full_tensor
from nextgpt_pl.utils.paths import resolve
from nextgpt_pl.utils.precision import compute_dtype, own_precision
from nextgpt_pl.utils.transfer import upload

_MEMORY_BYTES = 512 * 2**20
VERSION = 1  # raise it when states or sums change; see nextgpt_pl.features.keys

#: outputs of one row: loss and right labels under ``text``, and states by modality and start of a span
_RowOutputs = dict[Any, Tensor]


@dataclass
class RowStates:
    """Outputs of the LLM for a batch.

    Attributes:
        text_loss: sum of the cross-entropy over its labels.
        right: number of labels that the LLM predicts.
        at_signals: per modality, final hidden states and token embeddings of its spans, ``(S, 2, K, H)``.

    """

    text_loss: Tensor
    right: Tensor
    at_signals: dict[Modality, Tensor]


def read_rows(network: NextGPT, batch: Batch) -> RowStates:
    """One forward pass of the LLM over a batch."""
    hidden, at_signals = _pass(network, batch)
    places, labels = batch.predictions()
    loss, right = network.llm.cross_entropy(hidden.flatten(0, 1)[places], labels)
    return RowStates(loss, right, at_signals)


def read_each(network: NextGPT, batch: Batch) -> tuple[Tensor, dict[Modality, Tensor]]:
    """One forward pass; returns loss and right labels per row, ``(B, 2)``, and states at signal tokens."""
    hidden, at_signals = _pass(network, batch)
    places, labels = batch.predictions()
    counts = (batch.on_host().labels[:, 1:] != IGNORE).sum(1).tolist()
    parts = zip(hidden.flatten(0, 1)[places].split(counts), labels.split(counts), strict=True)
    rows = [torch.stack(network.llm.cross_entropy(states, of_row)) for states, of_row in parts]
    return torch.stack(rows), at_signals


def _pass(network: NextGPT, batch: Batch) -> tuple[Tensor, dict[Modality, Tensor]]:
    embeddings = network.embed(batch)
    hidden = network.hidden_states(batch, embeddings)
    return hidden, {
        m: torch.stack([network.at_signals(m, states, spans) for states in (hidden, embeddings)], dim=1)
        for m, spans in batch.spans.items()
    }


class SignalStates:
    """Computes outputs of new rows and caches them, in the network's cache or in memory.

    Args:
        network: network of the LLM.
        rows_at_a_time: number of new rows per forward pass.

    Raises:
        UserError: ``rows_at_a_time`` is below 1.

    """

    def __init__(self, network: NextGPT, rows_at_a_time: int = 1) -> None:
        if rows_at_a_time < 1:
            raise UserError(f"model.rows_at_a_time={rows_at_a_time}: at least 1")
        self.network, self.rows_at_a_time = network, rows_at_a_time
        self._stores: dict[str, Store] = {}

    def usable(self, batch: Batch) -> bool:
        """Whether forward passes are not collective and rows contain no input media, so that ranks are independent."""
        return not self.network.llm.collective and not batch.slots

    @torch.no_grad()
    @own_precision()
    def __call__(self, batch: Batch) -> RowStates:
        """The outputs for a batch, on its device."""
        rows = list(batch.rows())
        keys = [digest(torch.tensor([row.input_ids, row.labels]).numpy().tobytes()) for row in rows]
        places = {
            m: list(zip(s.rows.tolist(), s.starts.tolist(), strict=True)) for m, s in batch.on_host().spans.items()
        }
        span_keys = {m: [digest(keys[row], str(start)) for row, start in positions] for m, positions in places.items()}
        new_rows = {i: row for i, row in enumerate(rows) if keys[i] not in self._store("text")}
        for modality, positions in places.items():
            missing = self._store(modality.value).missing(span_keys[modality])
            new_rows |= {positions[i][0]: rows[positions[i][0]] for i in missing}
        outputs = self._read(new_rows, places)
        text = self._store("text").fetch(keys, lambda missing: torch.stack([outputs[i]["text"] for i in missing]))
        total = upload(torch.stack(text), batch.labels.device).sum(0)
        states = {}
        for modality, positions in places.items():
            values = self._store(modality.value).fetch(
                span_keys[modality],
                lambda missing, m=modality, p=positions: torch.stack(  # type: ignore[misc]
                    [outputs[p[i][0]][m, p[i][1]] for i in missing]
                ),
            )
            states[modality] = upload(torch.stack(values), batch.labels.device)
        return RowStates(total[0], total[1], states)

    def _read(self, rows: dict[int, Rendered], places: dict[Modality, list[tuple[int, int]]]) -> dict[int, _RowOutputs]:
        """Outputs of rows by row number; by default one row per pass, since padding changes the last bits."""
        numbers = sorted(rows, key=lambda i: (len(rows[i].input_ids), i))
        outputs: dict[int, _RowOutputs] = {}
        for first in range(0, len(numbers), self.rows_at_a_time):
            outputs |= self._forward({i: rows[i] for i in numbers[first : first + self.rows_at_a_time]}, places)
        return outputs

    def _forward(
        self, rows: dict[int, Rendered], places: dict[Modality, list[tuple[int, int]]]
    ) -> dict[int, _RowOutputs]:
        llm = self.network.llm
        spans = {
            i: tuple(SignalSpan(m, s, s, "") for m, positions in places.items() for r, s in positions if r == i)
            for i in rows
        }
        padded = pad([replace(row, spans=spans[i]) for i, row in rows.items()], int(llm.tokenizer.pad_token_id))
        batch = padded.to(next(llm.parameters()).device)
        text, at_signals = read_each(self.network, batch)
        outputs: dict[int, _RowOutputs] = {i: {"text": values} for i, values in zip(rows, text, strict=True)}
        numbers = list(rows)
        for modality, values in at_signals.items():
            targets = padded.spans[modality]
            for row, start, value in zip(targets.rows.tolist(), targets.starts.tolist(), values, strict=True):
                outputs[numbers[row]][modality, start] = value
        return outputs

    def _store(self, kind: str) -> Store:
        if kind not in self._stores:
            cache = self.network.cache
            self._stores[kind] = (
                Memory(_MEMORY_BYTES)
                if cache is None
                else cache.store(f"llm-{kind}", self.network.llm.path, {"kind": kind, **self._producer()})
            )
        return self._stores[kind]

    def _producer(self) -> dict[str, Any]:
        """Description of the LLM's weights and added parameters: signal rows, LoRA."""
        llm = self.network.llm
        path = Path(resolve(llm.path))
        commit = getattr(llm.config, "_commit_hash", None)
        added = [p for name, p in llm.named_parameters() if name.endswith(".rows") or "lora_" in name]
        extra = len(llm.extra_tokens)
        if extra:  # initialised at random, not read from files
            matrices = (llm.model.get_input_embeddings().base.weight, llm.model.get_output_embeddings().base.weight)
            added += [matrix[-extra:] for matrix in matrices]
        values = [full_tensor(p.detach(), torch.device("cpu")).float().contiguous().numpy().tobytes() for p in added]
        return {
            "version": VERSION,
            "weights": folder_sha256(path) if path.is_dir() else f"{llm.path}@{commit}",
            # a folder may contain several files, such as of other bit widths
            **({} if llm.pretrained.gguf_file is None else {"gguf_file": llm.pretrained.gguf_file}),
            "compute_dtype": compute_dtype(llm.dtype_name),
            "quantization": str(llm.quantization),
            # outputs depend on the number of rows per pass in their last bits
            "rows_at_a_time": self.rows_at_a_time,
            "added": digest(*values).hex(),
        }
