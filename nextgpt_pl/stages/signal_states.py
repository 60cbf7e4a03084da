"""What a frozen LLM makes of a row, computed once: its states at the signal tokens, and how well it foresees the text.

For decoder alignment with frozen signal rows, where nothing in the LLM trains: of a row that has been read, the next
epoch needs the output projections alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nextgpt_pl.dialogue.batching import pad
from nextgpt_pl.errors import UserError
from nextgpt_pl.features import Memory, Store
from nextgpt_pl.features.keys import digest, folder_sha256
from nextgpt_pl.modality import Modality
from nextgpt_pl.model import NextGPT
from nextgpt_pl.samples import IGNORE, Batch, Rendered, SignalSpan
from nextgpt_pl.utils.distributed import full_tensor
from nextgpt_pl.utils.paths import resolve
from nextgpt_pl.utils.precision import compute_dtype, own_precision
from nextgpt_pl.utils.transfer import upload

_MEMORY_BYTES = 512 * 2**20
VERSION = 1  # raised when states or sums change; see nextgpt_pl.features.keys

#: of one row: ``text``, its loss and right labels; by modality and start of a span, its states
_Made = dict[Any, Tensor]


@dataclass
class RowStates:
    """Of a batch.

    Attributes:
        text_loss: sum of the cross-entropy over its labels.
        right: number of labels that the LLM foresees.
        at_signals: per modality, final hidden states and token embeddings of its spans, ``(S, 2, K, H)``.

    """

    text_loss: Tensor
    right: Tensor
    at_signals: dict[Modality, Tensor]


def read_rows(network: NextGPT, batch: Batch) -> RowStates:
    """One pass of the LLM over a batch."""
    hidden, at_signals = _pass(network, batch)
    places, labels = batch.predictions()
    loss, right = network.llm.cross_entropy(hidden.flatten(0, 1)[places], labels)
    return RowStates(loss, right, at_signals)


def read_each(network: NextGPT, batch: Batch) -> tuple[Tensor, dict[Modality, Tensor]]:
    """The same with the text's loss and right labels row by row, ``(B, 2)``."""
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
    """Reads rows that it has not seen yet, and remembers them: in the network's cache, or without one in memory.

    Args:
        network: whose LLM reads.
        rows_at_a_time: of those that are new in a batch, read in one pass.

    Raises:
        UserError: fewer than one.

    """

    def __init__(self, network: NextGPT, rows_at_a_time: int = 1) -> None:
        if rows_at_a_time < 1:
            raise UserError(f"model.rows_at_a_time={rows_at_a_time}: at least 1")
        self.network, self.rows_at_a_time = network, rows_at_a_time
        self._stores: dict[str, Store] = {}

    def usable(self, batch: Batch) -> bool:
        """Whether this process can read what it needs by itself: none waits for another, and rows show no media."""
        return not self.network.llm.collective and not batch.slots

    @torch.no_grad()
    @own_precision()
    def __call__(self, batch: Batch) -> RowStates:
        """The batch's states, on its device."""
        rows = list(batch.rows())
        keys = [digest(torch.tensor([row.input_ids, row.labels]).numpy().tobytes()) for row in rows]
        places = {
            m: list(zip(s.rows.tolist(), s.starts.tolist(), strict=True)) for m, s in batch.on_host().spans.items()
        }
        span_keys = {m: [digest(keys[row], str(start)) for row, start in found] for m, found in places.items()}
        wanted = {i: row for i, row in enumerate(rows) if keys[i] not in self._store("text")}
        for modality, found in places.items():
            missing = self._store(modality.value).missing(span_keys[modality])
            wanted |= {found[i][0]: rows[found[i][0]] for i in missing}
        made = self._read(wanted, places)
        text = self._store("text").fetch(keys, lambda at: torch.stack([made[i]["text"] for i in at]))
        total = upload(torch.stack(text), batch.labels.device).sum(0)
        states = {}
        for modality, found in places.items():
            values = self._store(modality.value).fetch(
                span_keys[modality],
                lambda at, m=modality, f=found: torch.stack([made[f[i][0]][m, f[i][1]] for i in at]),  # type: ignore[misc]
            )
            states[modality] = upload(torch.stack(values), batch.labels.device)
        return RowStates(total[0], total[1], states)

    def _read(self, rows: dict[int, Rendered], places: dict[Modality, list[tuple[int, int]]]) -> dict[int, _Made]:
        """These rows of a batch, by their numbers: padding and neighbours change the last bits, so by default alone."""
        numbers = sorted(rows, key=lambda i: (len(rows[i].input_ids), i))
        made: dict[int, _Made] = {}
        for first in range(0, len(numbers), self.rows_at_a_time):
            made |= self._read_together({i: rows[i] for i in numbers[first : first + self.rows_at_a_time]}, places)
        return made

    def _read_together(
        self, rows: dict[int, Rendered], places: dict[Modality, list[tuple[int, int]]]
    ) -> dict[int, _Made]:
        llm = self.network.llm
        spans = {
            i: tuple(SignalSpan(m, s, s, "") for m, found in places.items() for r, s in found if r == i) for i in rows
        }
        padded = pad([replace(row, spans=spans[i]) for i, row in rows.items()], int(llm.tokenizer.pad_token_id))
        batch = padded.to(next(llm.parameters()).device)
        text, at_signals = read_each(self.network, batch)
        made: dict[int, _Made] = {i: {"text": values} for i, values in zip(rows, text, strict=True)}
        numbers = list(rows)
        for modality, values in at_signals.items():
            found = padded.spans[modality]
            for row, start, value in zip(found.rows.tolist(), found.starts.tolist(), values, strict=True):
                made[numbers[row]][modality, start] = value
        return made

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
        """The LLM's weights, and all that has been added to them: signal rows, LoRA."""
        llm = self.network.llm
        path = Path(resolve(llm.path))
        commit = getattr(llm.config, "_commit_hash", None)
        added = [p for name, p in llm.named_parameters() if name.endswith(".rows") or "lora_" in name]
        extra = len(llm.extra_tokens)
        if extra:  # drawn, not read from the files
            matrices = (llm.model.get_input_embeddings().base.weight, llm.model.get_output_embeddings().base.weight)
            added += [matrix[-extra:] for matrix in matrices]
        values = [full_tensor(p.detach(), torch.device("cpu")).float().contiguous().numpy().tobytes() for p in added]
        return {
            "version": VERSION,
            "weights": folder_sha256(path) if path.is_dir() else f"{llm.path}@{commit}",
            # a folder may hold several, such as of other bits
            **({} if llm.pretrained.gguf_file is None else {"gguf_file": llm.pretrained.gguf_file}),
            "compute_dtype": compute_dtype(llm.dtype_name),
            "quantization": str(llm.quantization),
            # rows that were read together differ in the last bits from those that were read alone
            "rows_at_a_time": self.rows_at_a_time,
            "added": digest(*values).hex(),
        }
