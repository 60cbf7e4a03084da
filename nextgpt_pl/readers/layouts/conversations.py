"""Lists of turns with ``from`` and ``value``: the official files, LLaVA, Video-LLaVA, ShareGPT."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nextgpt_pl.errors import UserError
from nextgpt_pl.modality import DECODABLE
from nextgpt_pl.readers.layouts.base import keys, without_unknown_keys
from nextgpt_pl.readers.model import Talk
from nextgpt_pl.readers.place import Place
from nextgpt_pl.readers.row_media import MEDIA_KEYS, RowMedia, with_medium_behind
from nextgpt_pl.readers.turns import LOSS_KEYS, Turn, captions_in, learned_in, pieces, role_of, turns_of
from nextgpt_pl.readers.values import text
from nextgpt_pl.samples import Message

KEYS = MEDIA_KEYS | {"system"}
_TURN = keys("from value caption output_modality input_modality markdown text") | set(LOSS_KEYS)
_DECODABLE = {modality.value: modality for modality in DECODABLE}


def conversations(row: dict[str, Any], place: Place) -> list[Talk]:
    """``conversations`` (ShareGPT: also ``items``), ``system``, and the media that the placeholders stand for.

    For the keys of media see :class:`~nextgpt_pl.readers.row_media.RowMedia`.
    """
    key = "conversations" if "conversations" in row else "items"
    return [talk([turn_of(turn, place) for turn in turns_of(row, key)], RowMedia(row, place), row)]


def turn_of(turn: Any, place: Place, makes: Any = None) -> Turn:
    """A turn with ``from`` and ``value``.

    A reply with a ``caption`` whose ``output_modality`` is a medium has this medium at its end if no placeholder says
    where it is.

    Args:
        turn: an object.
        place: where files are.
        makes: the ``output_modality`` of the whole row.

    Raises:
        UserError: the turn is malformed, or has an unknown key.

    """
    role = role_of(turn, "from")
    without_unknown_keys(turn, _TURN, place.ignore, "a turn's ")
    found = Turn(role, pieces(text(turn, "value")), captions_in(turn), learned_in(turn))
    made = _DECODABLE.get(str(turn.get("output_modality") or makes))
    if made is None or not found.captions or role != "assistant" or found.modalities:
        return found
    return with_medium_behind(found, made)


def talk(turns: Sequence[Turn], media: RowMedia, row: dict[str, Any]) -> Talk:
    """The conversation of some turns; a text in the row's ``system`` precedes them.

    Raises:
        UserError: media and placeholders do not match, a medium of the assistant has no caption, or both the row and a
            turn have a system prompt.

    """
    system = text(row, "system", optional=True)
    if system:
        if any(turn.role == "system" for turn in turns):
            raise UserError("a system prompt in 'system' and another one in a turn; one is expected")
        turns = [Turn("system", (system,)), *turns]
    messages = tuple(Message(turn.role, media.parts(turn), turn.learned) for turn in media.turns(turns))
    media.check_used()
    return Talk(messages)


def exchanges(pairs: Sequence[tuple[str, str]], row: dict[str, Any], place: Place) -> list[Talk]:
    """A conversation of questions and answers, after the exchanges of the row's ``history``."""
    turns = []
    for question, answer in (*_history(row), *pairs):
        turns += [Turn("user", pieces(question)), Turn("assistant", pieces(answer))]
    return [talk(turns, RowMedia(row, place), row)]


def _history(row: dict[str, Any]) -> list[tuple[str, str]]:
    history = row.get("history") or []
    pairs = history if isinstance(history, list) else [history]
    for pair in pairs:
        if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(value, str) for value in pair):
            raise UserError(f"history: a list of pairs of question and answer is expected, got {pair!r:.80}")
    return [(question, answer) for question, answer in pairs]
