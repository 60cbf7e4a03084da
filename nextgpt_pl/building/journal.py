"""The journal of a build: one JSON object per line, appended as soon as something is paid for or decided.

A line is a :class:`ReplyRecord` or a :class:`DialogueRecord`. Dialogues are decided in the order of their numbers,
whatever the order of the replies; so the records of dialogues are consecutive.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from nextgpt_pl.errors import UserError
from nextgpt_pl.utils.atomic import drop_truncated_line

FILE = "journal.jsonl"


@dataclass(frozen=True)
class ReplyRecord:
    """A reply of the LLM.

    Attributes:
        number: number of the dialogue.
        tokens_in: tokens of the prompt.
        tokens_out: tokens of the reply.
        repeats: repetitions of the request.
        estimated: whether the numbers of tokens are estimates.
        rejected: reason for which the reply is no usable dialogue; ``None`` if it is one.
        detail: what is wrong with it.
        messages: the dialogue, see :func:`nextgpt_pl.building.answers.encoded`; ``None`` if it is rejected.

    """

    number: int
    tokens_in: int
    tokens_out: int
    repeats: int = 0
    estimated: bool = False
    rejected: str | None = None
    detail: str = ""
    messages: list[dict[str, Any]] | None = None


@dataclass(frozen=True)
class DialogueRecord:
    """What became of a dialogue.

    Attributes:
        number: its number.
        row: its row of the data set; ``None`` if it is dropped.
        dropped: reason for which it is dropped; ``None`` if it is kept.
        detail: what is wrong with it.
        topic: its topic.
        captions: captions of all its media, in the order of the numbers in their files' names.
        media: number of its media per origin, such as ``image drawn``.
        refused: number of media that a check refused, or that could not be read, before these were found.

    """

    number: int
    row: dict[str, Any] | None = None
    dropped: str | None = None
    detail: str = ""
    topic: str = ""
    captions: list[str] = field(default_factory=list)
    media: dict[str, int] = field(default_factory=dict)
    refused: int = 0


Record = ReplyRecord | DialogueRecord
_KINDS: dict[str, type[ReplyRecord] | type[DialogueRecord]] = {"reply": ReplyRecord, "dialogue": DialogueRecord}
_NAMES = {kind: name for name, kind in _KINDS.items()}


class Journal:
    """The journal of a folder, open for appending.

    Args:
        folder: folder of the build.

    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE
        drop_truncated_line(self.path)
        self._file = self.path.open("a", encoding="utf-8")

    def add(self, record: Record) -> None:
        """Append a record and wait until it is on the disk."""
        line = json.dumps({"kind": _NAMES[type(record)], **asdict(record)}, ensure_ascii=False)
        self._file.write(line + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def records(folder: Path) -> Iterator[Record]:
    """The records of a folder's journal, in order; none if there is no journal.

    Raises:
        UserError: a line is not a record; the message names it.

    """
    path = folder / FILE
    if not path.is_file():
        return
    # newline="\n": other line breaks may occur inside a text
    with path.open(encoding="utf-8", newline="\n") as file:
        for number, line in enumerate(file, start=1):
            try:
                value = json.loads(line)
                yield _KINDS[value.pop("kind")](**value)
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                raise UserError(f"{path}: line {number} is no record of a build ({error})") from error
