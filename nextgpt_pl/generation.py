"""Writing token ids: prompts in, whole signal spans or none out. Imports no Lightning.

The first token of a span is the model's choice; the rest of it follows by force, and a stray one cannot be chosen. So
no reply holds a malformed span, whatever the model has learned.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessor, LogitsProcessorList

from nextgpt_pl.batching import pad
from nextgpt_pl.conversation import IGNORE
from nextgpt_pl.modality import Modality
from nextgpt_pl.model import NextGPT
from nextgpt_pl.samples import Batch, Rendered, SignalSpan


@dataclass
class Decoding:
    """How token ids are chosen.

    Args:
        max_new_tokens: longest reply.
        temperature: 0 takes the likeliest token, above 0 samples.
        top_p: share of the probability that is sampled from.
        seed: of the sampling.
        modalities: the media that a reply holds: each of these at least once, and no others. ``None`` leaves it to the
            model, an empty list forbids all.

    """

    max_new_tokens: int = 160
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    modalities: Sequence[Modality] | None = None

    def sampling(self) -> dict[str, Any]:
        """As arguments of transformers' ``generate``."""
        if self.temperature <= 0:
            return {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
        return {"do_sample": True, "temperature": self.temperature, "top_p": self.top_p, "top_k": 0}


@dataclass
class WholeSpans(LogitsProcessor):
    """Allows whole signal spans only, and of the wanted modalities only.

    Attributes:
        signal_ids: ids of every modality's whole span, in order; those without a decoder are never allowed.
        allowed: modalities that may be started.
        required: modalities that must occur: what the model gives to the end of the reply goes to the first one that
            is missing.
        end_ids: tokens that end a reply.
        separator: a token inside the spans that may stand elsewhere too.

    """

    signal_ids: Mapping[Modality, Sequence[int]]
    allowed: frozenset[Modality]
    required: tuple[Modality, ...]
    end_ids: tuple[int, ...]
    separator: int | None = None
    _places: dict[int, tuple[Sequence[int], int]] = field(init=False)

    def __post_init__(self) -> None:
        spans = self.signal_ids.values()
        self._places = {token: (ids, i) for ids in spans for i, token in enumerate(ids) if token != self.separator}

    def following(self, ids: Sequence[int]) -> int | None:
        """The token that must come after ``ids``: the next one of a span that has begun and not ended."""
        for back, token in enumerate(ids[:-3:-1]):
            if token in self._places:
                span, place = self._places[token]
                following = place + back + 1
                return span[following] if following < len(span) else None
            if token != self.separator:
                break
        return None

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores ``(N, V)`` after ``input_ids (N, T)``, which hold what was generated and no prompt."""
        scores = scores.clone()
        for row, ids in enumerate(input_ids.tolist()):
            forced = self.following(ids)
            if forced is not None:
                scores[row] = -torch.inf
                scores[row, forced] = 0.0
                continue
            for modality, span in self.signal_ids.items():
                tokens = [i for i in span if i != self.separator]
                scores[row, tokens[1:] if modality in self.allowed else tokens] = -torch.inf
            self._postpone_end(scores[row], ids)
        return scores

    def _postpone_end(self, scores: Tensor, ids: list[int]) -> None:
        missing = [m for m in self.required if self.signal_ids[m][0] not in ids]
        if missing and self.end_ids:
            first = self.signal_ids[missing[0]][0]
            ends = list(self.end_ids)
            scores[first] = torch.maximum(scores[first], scores[ends].max())
            scores[ends] = -torch.inf


def prompt_of(row: Rendered) -> Rendered:
    """A rendered item up to its first label: what the model is given to answer."""
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
    """Token ids of the reply to each prompt, without the token that ended it."""
    decoding = decoding or Decoding()
    batch = _batch(network, prompts)
    embeddings, mask = _padded_left(network.embed(batch), batch.attention_mask)
    makers = tuple(network.decoders)
    wanted = makers if decoding.modalities is None else tuple(decoding.modalities)
    ends = end_ids(network)
    required = wanted if decoding.modalities is not None else ()
    spans = WholeSpans(network.span_ids(), frozenset(wanted), required, ends, network.signal_separator)
    devices = [embeddings.device] if embeddings.is_cuda else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(decoding.seed)
        out = network.llm.model.generate(
            inputs_embeds=embeddings,
            attention_mask=mask.long(),
            max_new_tokens=decoding.max_new_tokens,
            logits_processor=LogitsProcessorList([spans]),
            eos_token_id=list(ends),
            pad_token_id=int(network.llm.tokenizer.pad_token_id),
            synced_gpus=network.llm.in_step,
            **decoding.sampling(),
            **({"stop_strings": network.llm.stop, "tokenizer": network.llm.tokenizer} if network.llm.stop else {}),
        )
    replies = [_before(ids, network.llm.stop, network.llm.tokenizer.decode) for ids in out.tolist()]
    return [_until(ids, ends, spans) for ids in replies]


def _before(ids: list[int], stops: Sequence[str], decode: Callable[[list[int]], str]) -> list[int]:
    """The tokens before the first of some texts, which may begin or end inside a token."""
    text = decode(ids) if stops else ""
    found = [position for stop in stops if (position := text.find(stop)) >= 0]
    count = len(ids)
    while found and len(decode(ids[:count])) > min(found):
        count -= 1
    return ids[:count]


def _padded_left(embeddings: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Rows that end together, as continuing them needs."""
    width = mask.shape[1]
    shifts = width - mask.sum(1)
    columns = (torch.arange(width, device=mask.device) - shifts.unsqueeze(1)) % width
    rows = torch.arange(len(mask), device=mask.device).unsqueeze(1)
    return embeddings[rows, columns], mask[rows, columns]


def _complete(ids: list[int], spans: WholeSpans) -> None:
    """The rest of a span that has begun."""
    while (forced := spans.following(ids)) is not None:
        ids.append(forced)


def _until(ids: list[int], ends: Iterable[int], spans: WholeSpans) -> list[int]:
    """Up to the end token; what the length limit cut off is known: the rest of a span, and media that must occur."""
    stop = next((i for i, token in enumerate(ids) if token in ends), len(ids))
    ids = ids[:stop]
    _complete(ids, spans)
    for modality in spans.required:
        if spans.signal_ids[modality][0] not in ids:
            ids.append(spans.signal_ids[modality][0])
            _complete(ids, spans)
    return ids


def find_spans(ids: Sequence[int], signal_ids: Mapping[Modality, Sequence[int]], offset: int = 0) -> list[SignalSpan]:
    """The whole signal spans in generated ids, in order; positions start at ``offset``."""
    first = {ids_of[0]: (modality, len(ids_of)) for modality, ids_of in signal_ids.items()}
    found, position = [], 0
    while position < len(ids):
        if ids[position] in first:
            modality, length = first[ids[position]]
            if list(ids[position : position + length]) == list(signal_ids[modality]):
                found.append(SignalSpan(modality, offset + position, offset + position + length, ""))
                position += length
                continue
        position += 1
    return found


@torch.no_grad()
def caption_embeddings(network: NextGPT, rows: Sequence[Rendered]) -> list[list[Tensor]]:
    """Per row and span, what the decoder is given: one pass over prompt and reply, in the order of the spans.

    A separate pass, since generation does not return the state at a reply's last token.
    """
    batch = _batch(network, rows)
    if not batch.spans:
        return [[] for _ in rows]
    embeddings = network.embed(batch)
    hidden = network.hidden_states(batch, embeddings)
    found: dict[tuple[int, int], Tensor] = {}
    for modality, spans in batch.spans.items():
        projected = network.project(modality, hidden, embeddings, spans)
        shape = network.decoders[modality].embedding_shape
        for row, start, value in zip(spans.rows.tolist(), spans.starts.tolist(), projected, strict=True):
            found[row, start] = value.view(shape)
    return [[found[index, span.start] for span in row.spans] for index, row in enumerate(rows)]
