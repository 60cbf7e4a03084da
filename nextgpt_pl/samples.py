"""Records of media, captions and dialogues, independent of tokenizers: what sources yield, and parts of replies."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from nextgpt_pl.modality import Modality

Role = Literal["system", "user", "assistant"]
Split = Literal["train", "val"]


class StoredMedia(ABC):
    """A media file inside another file, such as a member of a tar shard.

    Attributes:
        path: the file that it is in; ``None``: it is in memory.

    """

    path: Path | None

    @abstractmethod
    def read(self) -> bytes:
        """The bytes of the media file.

        Raises:
            UserError: they cannot be read.

        """


@dataclass(frozen=True)
class Media:
    """One medium, read on demand.

    Attributes:
        modality: modality of the medium.
        source: a file, one inside another file, or a function that returns the array (the pocket world renders on
            demand). Arrays are: image ``(H, W, 3)`` uint8; video ``(T, H, W, 3)`` uint8; audio ``(samples,)`` float32;
            depth ``(H, W)`` float32, a disparity in metres; thermal ``(H, W)`` float32 from 0 to 1; IMU ``(6, n)``
            float32, the accelerometer's and the gyroscope's three axes over five seconds.
        sample_rate: sample rate of audio arrays in hertz; files have their own.
        fps: frames per second of video arrays; files have their own.
        start: seconds at which a clip of the file begins; ``None``: its beginning.
        end: seconds at which the clip ends; ``None``: the file's end.

    """

    modality: Modality
    source: Path | StoredMedia | Callable[[], np.ndarray]
    sample_rate: int | None = None
    fps: float | None = None
    start: float | None = None
    end: float | None = None

    @property
    def is_file(self) -> bool:
        """Whether it is a file, or inside one, and is read by data-loader workers; else it is made on demand."""
        return isinstance(self.source, (Path, StoredMedia))


@dataclass(frozen=True)
class CaptionedPair:
    """A caption and the medium that it describes, if the source has it.

    Attributes:
        key: unique and stable name of the item (``pocket/train/image/17``, ``cc3m/001312382.jpg``).
        modality: medium of the pair.
        caption: the text.
        media: the medium itself; ``None`` in sources of captions alone.
        caption_embedding: a ``.npy`` file, or one inside another file, with the diffusion text encoder's embedding of
            the caption, shape ``(L, D)`` for image and video, ``(D,)`` for audio; ``None``: it is computed.
        instruction: the user's request for this medium, if the source has it.
        question: the user's request for its description, if the source has it.
        response: the assistant's text around the medium, if the source has it.
        description: the assistant's description of the medium, if it differs from the caption.
        attributes: exact attributes, in the pocket world.

    """

    key: str
    modality: Modality
    caption: str
    media: Media | None = None
    caption_embedding: Path | StoredMedia | None = None
    instruction: str | None = None
    question: str | None = None
    response: str | None = None
    description: str | None = None
    attributes: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class TextPart:
    """A text in a message."""

    text: str


@dataclass(frozen=True)
class MediaPart:
    """A medium in a message; media of the assistant need a ``caption``."""

    modality: Modality
    media: Media | None = None
    caption: str | None = None
    caption_embedding: Path | StoredMedia | None = None


Part = TextPart | MediaPart


@dataclass(frozen=True)
class Message:
    """One turn.

    Attributes:
        role: who speaks.
        parts: texts and media in order.
        learned: whether training has a loss on it, if it is the assistant's; else it is context.

    """

    role: Role
    parts: tuple[Part, ...]
    learned: bool = True

    @property
    def is_target(self) -> bool:
        """Whether training has a loss on it."""
        return self.role == "assistant" and self.learned


@dataclass(frozen=True)
class Dialogue:
    """A conversation; ``key`` names it in messages and logs."""

    key: str
    messages: tuple[Message, ...]
    attributes: Mapping[str, Any] | None = None


class ItemSource(ABC):
    """Reads items from files, or generates them."""

    @abstractmethod
    def read(self, split: Split) -> Sequence[CaptionedPair | Dialogue]:
        """The items of a split, ``train`` or ``val``; media are not read."""


@dataclass(frozen=True)
class Origin:
    """Where a medium comes from, if its decoder has a gallery.

    Attributes:
        kind: ``retrieved`` from the gallery, or ``generated``.
        distance: distance of the nearest item of the gallery, as the decoder measures it; ``None``: none can be read.
        item: key of the retrieved item.
        caption: its caption.

    """

    kind: Literal["retrieved", "generated"]
    distance: float | None = None
    item: str | None = None
    caption: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """The known attributes, as plain data."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def __str__(self) -> str:
        distance = "" if self.distance is None else f", distance {self.distance:.4g}"
        return f"{self.kind}{distance}{'' if self.item is None else f', {self.item}'}"


@dataclass(frozen=True)
class ReplyPart:
    """One part of a reply: text, or a generated medium; of a streamed reply also a piece of text, or a preview.

    Attributes:
        type: ``text``, or a modality.
        text: the text.
        array: array of the medium, as in :class:`Media`.
        rate: frames per second of a video, sample rate of audio.
        caption: caption that the LLM wrote for the medium, if media are represented by captions.
        step: of a preview, the number of finished denoising steps and of all steps.
        tokens: number of tokens that the LLM has written for the part.
        origin: where the medium comes from; ``None``: its decoder generates all media.

    """

    type: str
    text: str | None = None
    array: np.ndarray | None = None
    rate: float | None = None
    caption: str | None = None
    step: tuple[int, int] | None = None
    tokens: int = 0
    origin: Origin | None = None
