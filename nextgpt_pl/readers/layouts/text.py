"""Single requests with their answers: Alpaca, LLaMA-Factory's Alpaca layout, ms-swift's queries."""

from __future__ import annotations

from typing import Any

from nextgpt_pl.errors import UserError
from nextgpt_pl.readers.layouts.conversations import exchanges
from nextgpt_pl.readers.model import Talk
from nextgpt_pl.readers.place import Place
from nextgpt_pl.readers.values import text


def alpaca(row: dict[str, Any], place: Place) -> list[Talk]:
    """``instruction``, ``input`` (may be empty) and ``output``; also ``system``, ``history`` and media."""
    texts = [text(row, "instruction"), text(row, "input", optional=True)]
    if not any(texts):
        raise UserError("neither instruction nor input has a text")
    return exchanges([("\n".join(filter(None, texts)), text(row, "output"))], row, place)


def query(row: dict[str, Any], place: Place) -> list[Talk]:
    """``query`` and ``response``, ``system``, ``history`` (a list of pairs) and media."""
    return exchanges([(text(row, "query"), text(row, "response"))], row, place)
