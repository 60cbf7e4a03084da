"""Instructions without media, and questions about videos."""

from __future__ import annotations

from typing import Any

from nextgpt_pl.errors import UserError
from nextgpt_pl.modality import Modality
from nextgpt_pl.readers.layouts.base import keys, without_unknown_keys
from nextgpt_pl.readers.model import Talk
from nextgpt_pl.readers.place import Place
from nextgpt_pl.readers.turns import turns_of
from nextgpt_pl.readers.values import take
from nextgpt_pl.samples import MediaPart, Message, Part, TextPart

_QA_KEYS = keys("i q a")


def alpaca(row: dict[str, Any], place: Place) -> list[Talk]:
    """``instruction``, ``input`` (may be empty) and ``output``."""
    question = "\n".join([*take(row, "instruction"), *(take(row, "input") if row.get("input") else [])])
    answer = take(row, "output")[0]
    return [Talk((Message("user", (TextPart(question),)), Message("assistant", (TextPart(answer),))))]


def videochat(row: dict[str, Any], place: Place) -> list[Talk]:
    """``video`` and ``QA``, a list of ``q`` and ``a`` with an instruction ``i``, as one dialogue.

    ``i`` or ``q`` may be empty; the video precedes the first question.
    """
    medium = place.media(Modality.VIDEO, take(row, "video")[0])
    messages: list[Message] = []
    for turn in turns_of(row, "QA"):
        if not isinstance(turn, dict):
            raise UserError(f"QA: an object with q and a is expected, got {turn!r:.80}")
        without_unknown_keys(turn, _QA_KEYS, (), "QA: ")
        texts = [text for key in ("i", "q") if turn.get(key) for text in take(turn, key)]
        if not texts:
            raise UserError(f"QA: neither i nor q has a text: {turn!r:.80}")
        question: list[Part] = [] if messages else [MediaPart(Modality.VIDEO, medium)]
        question.append(TextPart("\n".join(texts)))
        messages += [Message("user", tuple(question)), Message("assistant", (TextPart(take(turn, "a")[0]),))]
    return [Talk(tuple(messages))]
