"""Checks on single rows of untrusted data files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nextgpt_pl.dialogue.template_tokens import check_text
from nextgpt_pl.errors import UserError, nearest
from nextgpt_pl.samples import CaptionedPair, Dialogue, MediaPart

_LISTED = 20


@dataclass
class RowReport:
    """Counts of used and broken rows of a source.

    Attributes:
        source: name of the source.
        used: number of rows that were read.
        broken: a message for each row that could not be used.
        notes: further messages.
        of_split: how many of ``used`` and of ``broken`` belong to the requested split; ``None``: all of them.

    """

    source: str
    used: int = 0
    broken: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    of_split: tuple[int, int] | None = None

    @property
    def split_counts(self) -> tuple[int, int]:
        """Number of used and of broken rows of the split."""
        return (self.used, len(self.broken)) if self.of_split is None else self.of_split

    def message(self) -> str:
        """One line with the counts, then one per broken row (at most twenty) and per note."""
        total = self.used + len(self.broken)
        lines = [f"used {self.used} of {total} rows of {self.source}"]
        if self.broken:
            lines[0] += f"; {len(self.broken)} broken:"
            lines += [f"  {b}" for b in self.broken[:_LISTED]]
            if len(self.broken) > _LISTED:
                lines.append(f"  and {len(self.broken) - _LISTED} more")
        lines += [f"  {note}" for note in self.notes]
        return "\n".join(lines)


def take(row: dict[str, Any], key: str, *, optional: bool = False) -> list[str]:
    """A row's value as a list of strings; the official format allows single values and lists.

    Raises:
        UserError: the key is missing (unless optional) or holds something else.

    """
    value = row.get(key)
    if value is None:
        if optional:
            return []
        raise UserError(f"key {key!r} is missing{nearest(key, row)}")
    values = value if isinstance(value, list) else [value]
    if not values or not all(isinstance(v, str) and v for v in values):
        raise UserError(f"{key}={value!r:.80}: a text or a list of texts is expected")
    return values


def check_answer(item: CaptionedPair | Dialogue) -> None:
    """Refuse an item without a training target.

    Raises:
        UserError: a dialogue has no answer, or a pair no caption.

    """
    if isinstance(item, CaptionedPair):
        if not item.caption.strip():
            raise UserError("the caption is empty: there is nothing to learn")
        return
    answers = [message for message in item.messages if message.role == "assistant"]
    if not answers:
        raise UserError("no turn of the assistant: there is nothing to learn")
    if not any(isinstance(p, MediaPart) or p.text.strip() for message in answers for p in message.parts):
        raise UserError("every answer is empty: there is nothing to learn")


def check_texts(item: CaptionedPair | Dialogue) -> None:
    """Refuse an item with a text that no tokenizer accepts.

    Raises:
        UserError: a text has a lone surrogate.

    """
    if isinstance(item, CaptionedPair):
        texts = [(n, getattr(item, n)) for n in ("caption", "instruction", "question", "response", "description")]
    else:
        parts = [(number, part) for number, message in enumerate(item.messages) for part in message.parts]
        texts = [(f"message {n}", p.caption if isinstance(p, MediaPart) else p.text) for n, p in parts]
    for name, text in texts:
        check_text(text or "", name)


def json_lines(path: Path) -> Iterator[tuple[int, Any]]:
    """Line number from 0 and value of each line of a JSONL file that is not blank; the error if it is invalid."""
    for number, line in enumerate(path.read_text(encoding="utf-8").removesuffix("\n").split("\n")):
        if line.strip():
            try:
                yield number, json.loads(line)
            except json.JSONDecodeError as error:
                yield number, error


def inside(folder: Path, name: str) -> Path:
    """``folder/name``; the path must not leave the folder by ``..``, an absolute path or a link.

    Raises:
        UserError: the path leaves the folder.

    """
    base = folder.resolve()
    try:
        path = (base / name).resolve()
        path.exists()
    except (OSError, ValueError) as error:  # the name is too long or contains a zero byte
        raise UserError(f"{name!r:.80} is not a file name ({error})") from error
    if not path.is_relative_to(base):
        raise UserError(f"{name!r} leaves its folder {base}")
    return path


def _open_array(path: Path) -> np.ndarray:
    if not path.is_file():
        raise UserError(f"missing caption embedding {path}")
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # a damaged header may raise anything
        raise UserError(f"caption embedding {path} is unreadable, or a pickle, which is refused ({error})") from error
    if not isinstance(array, np.ndarray) or array.dtype.kind != "f":
        raise UserError(f"caption embedding {path} must be one array of floating-point numbers")
    return array


def array_shape(path: Path) -> tuple[int, ...]:
    """Shape of a ``.npy`` file; reads its header only."""
    return tuple(_open_array(path).shape)


def load_embedding(path: Path) -> Tensor:
    """Read a caption embedding as float32.

    Raises:
        UserError: the file is unreadable or pickled, or a number is not finite.

    """
    tensor = torch.from_numpy(np.array(_open_array(path), dtype=np.float32))
    if not torch.isfinite(tensor).all():
        raise UserError(f"caption embedding {path} has numbers that are not finite")
    return tensor
