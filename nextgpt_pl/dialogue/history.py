"""Media of earlier assistant turns: the forms in which they stand in a conversation, and the rows that teach them."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

from nextgpt_pl.modality import Modality
from nextgpt_pl.samples import Dialogue, MediaPart, Message

MediaInHistory = Literal["signals", "features", "both"]


def learned_ranges(dialogue: Dialogue, shown: Collection[Modality], *, apart: bool = False) -> list[range]:
    """The messages that each training row of a dialogue teaches; the earlier messages are the row's context.

    A medium of the assistant is written as signal tokens and shown in another form to the later turns. A turn that
    another turn of the assistant looks at therefore ends a row if it has such a medium. Without one there is one row.

    Args:
        dialogue: a training dialogue.
        shown: modalities whose media later turns see in another form.
        apart: whether each turn of the assistant ends a row, as if it had such a medium.

    Returns:
        Consecutive ranges of message positions that cover the dialogue; messages that are not learned end none.

    """
    replies = [i for i, message in enumerate(dialogue.messages) if message.is_target]
    ends = [i + 1 for i in replies[:-1] if apart or _has_medium(dialogue.messages[i], shown)]
    return [range(start, stop) for start, stop in zip([0, *ends], [*ends, len(dialogue.messages)], strict=True)]


def _has_medium(message: Message, modalities: Collection[Modality]) -> bool:
    return any(isinstance(part, MediaPart) and part.modality in modalities for part in message.parts)
