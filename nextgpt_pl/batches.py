"""Rendered pairs and dialogues: token ids with their media, and padded batches of them.

:mod:`nextgpt_pl.dialogue` renders :mod:`nextgpt_pl.samples` as token ids and pads these to a :class:`Batch`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from nextgpt_pl.modality import Modality
from nextgpt_pl.samples import Media, StoredMedia
from nextgpt_pl.utils.transfer import upload

IGNORE = -100  # the label of a position without a loss


@dataclass(frozen=True)
class SignalSpan:
    """The signal tokens of one generated medium, at the token positions ``start:stop`` of a row.

    ``media`` is the true medium, if the item has one. ``embedding`` is the content of ``caption_embedding``, when read.
    ``inputs`` is the true medium as the decoder's loss needs it, if a data-loader worker has already read it.
    """

    modality: Modality
    start: int
    stop: int
    caption: str
    caption_embedding: Path | StoredMedia | None = None
    media: Media | None = None
    embedding: Tensor | None = field(default=None, compare=False, repr=False)
    inputs: Tensor | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class MediaSlot:
    """One input medium, whose embeddings replace the token positions ``start:stop`` of a row.

    ``inputs`` is the output of the encoder's ``prepare``, if a data-loader worker has already read the medium. ``key``
    is the key of its features, if a worker has already hashed it.
    """

    modality: Modality
    start: int
    stop: int
    media: Media
    inputs: Tensor | None = field(default=None, compare=False, repr=False)
    key: bytes | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class RowNote:
    """An item that was skipped or shortened.

    Attributes:
        split: ``train`` or ``val``.
        kind: ``skipped`` (replaced by another item) or ``shortened`` (without its oldest exchanges).
        key: the item's name.
        reason: human-readable reason; begins with the key.

    """

    split: str
    kind: Literal["skipped", "shortened"]
    key: str
    reason: str


@dataclass(frozen=True)
class Rendered:
    """A pair or dialogue as token ids, without padding.

    Attributes:
        input_ids: T token ids.
        labels: T ids, ``-100`` where there is no loss; not shifted.
        slots: slots of input media, in order.
        spans: signal spans of the assistant's media, in order.
        key: the item's name.
        attributes: exact attributes, where the source knows them.

    """

    input_ids: list[int]
    labels: list[int]
    slots: tuple[MediaSlot, ...] = ()
    spans: tuple[SignalSpan, ...] = ()
    key: str = ""
    attributes: Mapping[str, Any] | None = None

    @property
    def first_label(self) -> int:
        """Position of the first label: of the reply, in a row with one; T if there is none."""
        return next((i for i, label in enumerate(self.labels) if label != IGNORE), len(self.labels))


@dataclass
class SpanTargets:
    """All spans of one modality in a batch.

    Attributes:
        rows: batch row of each span, ``(S,)`` int64.
        starts: position of each span's first signal token, ``(S,)`` int64.
        captions: the ``S`` captions.
        embeddings: one caption embedding per span, ``(L, D)`` or ``(D,)`` float32; ``None`` if it
            must be computed by the decoder's text encoder.
        media: the true medium per span, if the item has it.
        inputs: the true medium as the decoder's loss needs it, per span; ``None`` if it is not read yet.

    """

    rows: Tensor
    starts: Tensor
    captions: list[str]
    embeddings: list[Tensor | None] = field(default_factory=list)
    media: list[Media | None] = field(default_factory=list)
    inputs: list[Tensor | None] = field(default_factory=list)

    def to(self, device: torch.device | str) -> SpanTargets:
        """A copy with its tensors on ``device``."""
        return replace(
            self,
            rows=upload(self.rows, device),
            starts=upload(self.starts, device),
            embeddings=[e if e is None else upload(e, device) for e in self.embeddings],
        )

    def pin_memory(self) -> SpanTargets:
        """A copy with its tensors in pinned memory."""
        return replace(
            self,
            rows=self.rows.pin_memory(),
            starts=self.starts.pin_memory(),
            embeddings=[*map(_pinned, self.embeddings)],
            inputs=[*map(_pinned, self.inputs)],
        )


@dataclass
class Batch:
    """A padded batch of B rows and T tokens, the input of a stage's step.

    Attributes:
        input_ids: ``(B, T)`` int64, padded on the right.
        attention_mask: ``(B, T)`` bool.
        labels: ``(B, T)`` int64, ``-100`` where there is no loss; not shifted.
        spans: per modality, signal spans of the assistant's media.
        slots: per modality, slots of input media.
        keys: names of the items, for messages and sample files.
        attributes: exact attributes per row, if the source has them.
        notes: items that were skipped or shortened when the batch was made.
        reading: seconds that it took to read and render the items.
        host: the CPU batch that this one was copied from; see :meth:`on_host`.

    """

    input_ids: Tensor
    attention_mask: Tensor
    labels: Tensor
    spans: dict[Modality, SpanTargets] = field(default_factory=dict)
    slots: dict[Modality, list[tuple[int, MediaSlot]]] = field(default_factory=dict)
    keys: Sequence[str] = ()
    attributes: Sequence[Mapping[str, Any] | None] = ()
    notes: Sequence[RowNote] = ()
    reading: float = field(default=0.0, compare=False)
    host: Batch | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return self.input_ids.shape[0]

    def on_host(self) -> Batch:
        """The batch on the CPU, as collated; reading its values needs no host synchronisation."""
        return self if self.host is None else self.host

    def lengths(self) -> list[int]:
        """Number of tokens of each row, without padding."""
        return [int(length) for length in self.on_host().attention_mask.sum(1).tolist()]

    def label_count(self) -> int:
        """Number N of labels that are predicted from a previous token."""
        return int((self.on_host().labels[:, 1:] != IGNORE).sum())

    def predictions(self) -> tuple[Tensor, Tensor]:
        """Positions that predict a label, and the labels, on the batch's device.

        Returns:
            Indices ``(N,)`` into the flattened ``(B * T)`` positions whose *next* token has a label, and these labels
            ``(N,)``.

        """
        labels = self.on_host().labels
        following = torch.full_like(labels, IGNORE)
        following[:, :-1] = labels[:, 1:]
        places = (following.flatten() != IGNORE).nonzero().squeeze(1)
        return upload(places, self.labels.device), upload(following.flatten()[places], self.labels.device)

    def rows(self) -> Iterator[Rendered]:
        """The rows without padding and spans, from which prompts are taken."""
        host = self.on_host()
        for index, length in enumerate(self.lengths()):
            slots = [slot for of_modality in self.slots.values() for row, slot in of_modality if row == index]
            yield Rendered(
                host.input_ids[index, :length].tolist(),
                host.labels[index, :length].tolist(),
                tuple(sorted(slots, key=lambda slot: slot.start)),
                key=self.keys[index] if self.keys else "",
                attributes=self.attributes[index] if self.attributes else None,
            )

    def to(self, device: torch.device | str) -> Batch:
        """A copy with its tensors on ``device``; :attr:`host` refers to the CPU batch."""
        names = ("input_ids", "attention_mask", "labels")
        moved: dict[str, Any] = {name: upload(getattr(self, name), device) for name in names}
        spans = {modality: targets.to(device) for modality, targets in self.spans.items()}
        return replace(self, **moved, spans=spans, host=self.on_host())

    def pin_memory(self) -> Batch:
        """A copy with its tensors in pinned memory, from which copies to a GPU are asynchronous; for data loaders."""
        pinned: dict[str, Any] = {n: getattr(self, n).pin_memory() for n in ("input_ids", "attention_mask", "labels")}
        slots = {
            modality: [(row, replace(slot, inputs=_pinned(slot.inputs))) for row, slot in of_modality]
            for modality, of_modality in self.slots.items()
        }
        return replace(self, **pinned, slots=slots, spans={m: spans.pin_memory() for m, spans in self.spans.items()})


def _pinned(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.pin_memory()
