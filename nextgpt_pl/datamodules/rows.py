"""Checks on single rows of untrusted data files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from nextgpt_pl.dialogue.template_tokens import check_text
from nextgpt_pl.errors import UserError
from nextgpt_pl.samples import CaptionedPair, Dialogue, MediaPart, StoredMedia

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
        left_out: number of rows that are not used on purpose.

    """

    source: str
    used: int = 0
    broken: Sequence[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    of_split: tuple[int, int] | None = None
    left_out: int = 0

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


Items = TypeVar("Items", bound=Sequence[CaptionedPair | Dialogue])


def checked(items: Items, *, texts: bool = True) -> Items:
    """The items of a row, each with something to learn.

    Args:
        items: the items.
        texts: whether their texts may be such that no tokenizer accepts them.

    Raises:
        UserError: an item has no training target, or a text with half of a character.

    """
    for item in items:
        check_answer(item)
        if texts:
            check_texts(item)
    return items


def check_answer(item: CaptionedPair | Dialogue) -> None:
    """Refuse an item without a training target.

    Raises:
        UserError: a dialogue has no answer, or a pair no caption.

    """
    if isinstance(item, CaptionedPair):
        check_caption(item.caption)
        return
    if not any(message.role == "assistant" for message in item.messages):
        raise UserError("no turn of the assistant: there is nothing to learn; a test set without answers is for test")
    answers = [message for message in item.messages if message.is_target]
    if not answers:
        raise UserError("every turn of the assistant has the weight 0: there is nothing to learn")
    if not any(isinstance(p, MediaPart) or p.text.strip() for message in answers for p in message.parts):
        raise UserError("every answer is empty: there is nothing to learn")


def check_caption(caption: str) -> None:
    """Refuse an empty caption.

    Raises:
        UserError: it is empty.

    """
    if not caption.strip():
        raise UserError("the caption is empty: there is nothing to learn")


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


def _open_array(path: Path | StoredMedia) -> np.ndarray:
    if isinstance(path, Path) and not path.is_file():
        raise UserError(f"missing caption embedding {path}")
    try:
        if isinstance(path, StoredMedia):
            array = np.load(BytesIO(path.read()), allow_pickle=False)
        else:
            array = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # a damaged header may raise anything
        raise UserError(f"caption embedding {path} is unreadable, or a pickle, which is refused ({error})") from error
    if not isinstance(array, np.ndarray) or array.dtype.kind != "f":
        raise UserError(f"caption embedding {path} must be one array of floating-point numbers")
    return array


def load_embedding(path: Path | StoredMedia, shape: tuple[int, ...] | None = None) -> Tensor:
    """Read a caption embedding as float32.

    Args:
        path: the ``.npy`` file, or one inside another file.
        shape: expected shape; ``None``: any.

    Raises:
        UserError: the file is unreadable or pickled or has another shape, or a number is not finite.

    """
    array = _open_array(path)
    if shape is not None and array.shape != shape:
        actual, expected = ("x".join(map(str, sizes)) for sizes in (array.shape, shape))
        raise UserError(f"caption embedding {path} is {actual}, the decoder's text encoder gives {expected}")
    tensor = torch.from_numpy(np.array(array, dtype=np.float32))
    if not torch.isfinite(tensor).all():
        raise UserError(f"caption embedding {path} has numbers that are not finite")
    return tensor
