"""The row model: what a row of any data set is, for training and for evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from nextgpt_pl.modality import Modality
from nextgpt_pl.samples import CaptionedPair, Dialogue, Media, MediaPart, Message, StoredMedia, TextPart


class LeftOut(Exception):  # noqa: N818 - it is no error
    """A row that is not used on purpose: it is counted under the text of this exception, and stops nothing."""

    BEGINNING = "are left out"  #: of each such remark

    @property
    def remark(self) -> str:
        """The text behind the number of such rows in a report."""
        return f"{self.BEGINNING}: {self}"


class Captioned(NamedTuple):
    """A medium and its captions.

    Attributes:
        modality: of the medium.
        name: name of the medium in the data set.
        captions: at least one.
        media: the medium; ``None``: the row has captions alone.
        embeddings: precomputed embedding of each caption, or ``None``.
        instruction: the user's request for this medium.
        question: the user's request for its description.
        response: the assistant's text around the medium.
        description: the assistant's description of the medium, if it differs from the captions.
        identity: number or name of the medium in the data set, if that is not its file name.

    """

    modality: Modality
    name: str
    captions: tuple[str, ...]
    media: Media | None = None
    embeddings: tuple[Path | StoredMedia | None, ...] = ()
    instruction: str | None = None
    question: str | None = None
    response: str | None = None
    description: str | None = None
    identity: str = ""

    def items(self, key: str) -> list[CaptionedPair]:
        """One pair per caption."""
        return [
            CaptionedPair(
                key=f"{key} ({self.name})" if len(self.captions) == 1 else f"{key} ({self.name}, caption {number})",
                modality=self.modality,
                caption=caption,
                media=self.media,
                caption_embedding=self.embeddings[number] if self.embeddings else None,
                instruction=self.instruction,
                question=self.question,
                response=self.response,
                description=self.description,
            )
            for number, caption in enumerate(self.captions)
        ]


class Question(NamedTuple):
    """A question about media, with one or more answers.

    Attributes:
        media: the media, before the question.
        text: the question.
        answers: accepted answers; the most frequent one is learned. Empty: a test set without answers.
        identity: name of the question in the data set.

    """

    media: tuple[MediaPart, ...]
    text: str
    answers: tuple[str, ...]
    identity: str = ""

    def items(self, key: str) -> list[Dialogue]:
        """One exchange; without answers it has no turn of the assistant, which is refused in training."""
        messages = [Message("user", (*self.media, TextPart(self.text)))]
        if self.answers:
            # of equally frequent answers the first one
            answer = max(dict.fromkeys(self.answers), key=self.answers.count)
            messages.append(Message("assistant", (TextPart(answer),)))
        return [Dialogue(key, tuple(messages))]


class Talk(NamedTuple):
    """A conversation."""

    messages: tuple[Message, ...]

    def items(self, key: str) -> list[Dialogue]:
        """The dialogue."""
        return [Dialogue(key, self.messages)]


Row = Captioned | Question | Talk


def items_of(rows: Sequence[Row], key: str) -> list[CaptionedPair | Dialogue]:
    """The training items of a data file's row.

    Args:
        rows: what the row holds.
        key: its name in messages.

    """
    return [item for row in rows for item in row.items(key)]
