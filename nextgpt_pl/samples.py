"""The records that flow from files to the model.

Readers yield :class:`CaptionedPair` and :class:`Dialogue`; ``conversation`` turns either into token ids;
``datamodules.collate`` pads those into a :class:`Batch`. Nothing here knows of tokenizers or networks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from nextgpt_pl.modality import Modality

Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True)
class Media:
    """One medium, read only when asked for.

    Attributes:
        modality: what it is.
        source: a file, or a function that makes the array (the pocket world renders on demand).
            Arrays are: image ``(H, W, 3)`` uint8; video ``(T, H, W, 3)`` uint8; audio ``(samples,)`` float32; depth
            ``(H, W)`` float32, a disparity in metres; thermal ``(H, W)`` float32 from 0 to 1; IMU ``(6, n)`` float32,
            the accelerometer's and the gyroscope's three axes over five seconds.
        sample_rate: of audio arrays, in hertz; files carry their own.
        fps: of video arrays, in frames per second; files carry their own.

    """

    modality: Modality
    source: Path | Callable[[], np.ndarray]
    sample_rate: int | None = None
    fps: float | None = None


@dataclass(frozen=True)
class CaptionedPair:
    """A caption and, where the source has it, the medium that it describes.

    Attributes:
        key: unique and stable name of the item (``pocket/train/image/17``, ``cc3m/001312382.jpg``).
        modality: medium of the pair.
        caption: the text.
        media: the medium itself; ``None`` in sources of captions alone.
        caption_embedding: a ``.npy`` file with the diffusion text encoder's embedding of the caption,
            shape ``(L, D)`` for image and video, ``(D,)`` for audio; ``None`` means: compute it.
        instruction: what the user says to get this medium, if the source has it.
        question: what the user says to get it described, if the source has it.
        response: what the assistant says around it, if the source has it.
        description: what the assistant says when it is shown this medium, if that is not just the caption.
        attributes: exact attributes, known in the pocket world.

    """

    key: str
    modality: Modality
    caption: str
    media: Media | None = None
    caption_embedding: Path | None = None
    instruction: str | None = None
    question: str | None = None
    response: str | None = None
    description: str | None = None
    attributes: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class TextPart:
    """A stretch of text in a message."""

    text: str


@dataclass(frozen=True)
class MediaPart:
    """A medium in a message. ``caption`` is needed where the assistant is to produce it."""

    modality: Modality
    media: Media | None = None
    caption: str | None = None
    caption_embedding: Path | None = None


Part = TextPart | MediaPart


@dataclass(frozen=True)
class Message:
    """One turn: who speaks, and the parts in order."""

    role: Role
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class Dialogue:
    """A conversation; ``key`` names it in messages and logs."""

    key: str
    messages: tuple[Message, ...]
    attributes: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class SignalSpan:
    """Where one generated medium is asked for: token positions ``start:stop`` of a row hold its signal tokens.

    ``media`` is the true medium, where the item has it. ``embedding`` is what ``caption_embedding`` holds, once read.
    """

    modality: Modality
    start: int
    stop: int
    caption: str
    caption_embedding: Path | None = None
    media: Media | None = None
    embedding: Tensor | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class MediaSlot:
    """Where one input medium enters: its embeddings replace the token positions ``start:stop`` of a row.

    ``inputs`` is the medium as the encoder's ``prepare`` gives it, where a data-loader worker has read it already.
    """

    modality: Modality
    start: int
    stop: int
    media: Media
    inputs: Tensor | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class RowNote:
    """An item that was not used, or not whole.

    Attributes:
        split: ``train`` or ``val``.
        kind: ``skipped``: another item took its place; ``shortened``: it lost its oldest exchanges.
        key: the item's name.
        reason: what was wrong, for people; begins with the name.

    """

    split: str
    kind: Literal["skipped", "shortened"]
    key: str
    reason: str


@dataclass(frozen=True)
class Rendered:
    """A pair or dialogue as token ids, made by ``conversation``; not padded.

    Attributes:
        input_ids: T token ids.
        labels: T ids, ``-100`` where no loss stands; not shifted.
        slots: where input media enter, in order.
        spans: where the assistant's media are asked for, in order.
        key: the item's name.
        attributes: exact attributes, where the source knows them.

    """

    input_ids: list[int]
    labels: list[int]
    slots: tuple[MediaSlot, ...] = ()
    spans: tuple[SignalSpan, ...] = ()
    key: str = ""
    attributes: Mapping[str, Any] | None = None


@dataclass
class SpanTargets:
    """All spans of one modality in a batch.

    Attributes:
        rows: batch row of each span, ``(S,)`` int64.
        starts: position of each span's first signal token, ``(S,)`` int64.
        captions: the ``S`` captions.
        embeddings: one caption embedding per span, ``(L, D)`` or ``(D,)`` float32; ``None`` where the file
            names none and the decoder's text encoder is to compute it.
        media: the true medium per span, where the item has it.

    """

    rows: Tensor
    starts: Tensor
    captions: list[str]
    embeddings: list[Tensor | None] = field(default_factory=list)
    media: list[Media | None] = field(default_factory=list)


@dataclass
class Batch:
    """What a stage's step receives. B rows, T tokens.

    Attributes:
        input_ids: ``(B, T)`` int64, padded on the right.
        attention_mask: ``(B, T)`` bool.
        labels: ``(B, T)`` int64, ``-100`` where no loss stands; not shifted.
        spans: per modality, the media that the assistant produces.
        slots: per modality, where input media enter.
        keys: names of the items, for messages and sample files.
        attributes: exact attributes per row, where the source knows them.
        notes: items that were skipped or shortened when the batch was made.

    """

    input_ids: Tensor
    attention_mask: Tensor
    labels: Tensor
    spans: dict[Modality, SpanTargets] = field(default_factory=dict)
    slots: dict[Modality, list[tuple[int, MediaSlot]]] = field(default_factory=dict)
    keys: Sequence[str] = ()
    attributes: Sequence[Mapping[str, Any] | None] = ()
    notes: Sequence[RowNote] = ()

    def __len__(self) -> int:
        return self.input_ids.shape[0]

    def rows(self) -> Iterator[Rendered]:
        """The rows again, without padding and spans; what a prompt is cut from."""
        for index, length in enumerate(self.attention_mask.sum(1).tolist()):
            slots = [slot for of_modality in self.slots.values() for row, slot in of_modality if row == index]
            yield Rendered(
                self.input_ids[index, :length].tolist(),
                self.labels[index, :length].tolist(),
                tuple(sorted(slots, key=lambda slot: slot.start)),
                key=self.keys[index] if self.keys else "",
                attributes=self.attributes[index] if self.attributes else None,
            )

    def to(self, device: torch.device | str, **kwargs: Any) -> Batch:
        """Move the tensors, in place; Lightning calls this for custom batch types."""
        for name in ("input_ids", "attention_mask", "labels"):
            setattr(self, name, getattr(self, name).to(device, **kwargs))
        for target in self.spans.values():
            target.rows = target.rows.to(device, **kwargs)
            target.starts = target.starts.to(device, **kwargs)
            target.embeddings = [e if e is None else e.to(device, **kwargs) for e in target.embeddings]
        return self


@dataclass(frozen=True)
class ReplyPart:
    """One part of a reply, in the order in which the model wrote it: text, or a generated medium.

    Attributes:
        type: ``text``, or a modality.
        text: of a text.
        array: of a medium, as in :class:`Media`.
        rate: frames per second of a video, sample rate of a sound.
        caption: of a medium that the LLM asked for in words.

    """

    type: str
    text: str | None = None
    array: np.ndarray | None = None
    rate: float | None = None
    caption: str | None = None
