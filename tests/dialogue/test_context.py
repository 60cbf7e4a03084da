import pytest

from nextgpt_pl.batches import Rendered
from nextgpt_pl.dialogue.context import exchanges, shortened
from nextgpt_pl.errors import UserError
from nextgpt_pl.samples import Dialogue, Message, TextPart


def _dialogue(*turns):
    return Dialogue("row 7", tuple(Message(role, (TextPart(text),)) for role, text in turns))


def _render(dialogue):
    """One token per letter."""
    return Rendered([ord(c) for m in dialogue.messages for p in m.parts for c in p.text], [], key=dialogue.key)


def _text(row):
    return "".join(map(chr, row.input_ids))


LONG = _dialogue(
    ("system", "ss"), ("user", "aaaa"), ("assistant", "bbbb"), ("user", "cc"), ("assistant", "dd"), ("user", "ee")
)


def _rows(dialogue):
    return [_render(dialogue)]


@pytest.mark.parametrize(
    ("roles", "groups"),
    [
        ("sua", [[1, 2]]),
        ("suauau", [[1, 2], [3, 4], [5]]),
        ("uuau", [[0, 1, 2], [3]]),
        ("auaau", [[0], [1, 2, 3], [4]]),
        ("s", []),
    ],
)
def test_an_exchange_is_what_the_user_says_and_what_follows(roles, groups):
    names = {"s": "system", "u": "user", "a": "assistant"}
    assert exchanges([names[r] for r in roles]) == groups


@pytest.mark.parametrize(
    ("limit", "text", "dropped"),
    [(16, "ssaaaabbbbccddee", ()), (15, "ssccddee", (1, 2)), (8, "ssccddee", (1, 2)), (7, "ssee", (1, 2, 3, 4))],
)
def test_no_more_exchanges_are_dropped_than_needed_and_the_system_message_stays(limit, text, dropped):
    (row,), gone = shortened(LONG, _rows, limit)
    assert (_text(row), gone) == (text, dropped)


def test_a_last_exchange_that_is_too_long_is_an_error_with_both_numbers():
    with pytest.raises(UserError, match="row 7: 4 tokens in the last exchange alone, at most 3 fit"):
        shortened(LONG, _rows, 3)
    with pytest.raises(UserError, match="row 7: 4 tokens, at most 3 fit"):
        shortened(_dialogue(("user", "aaaa")), _rows, 3)


def test_few_renderings_find_the_cut_of_a_long_conversation():
    turns = [turn for i in range(1000) for turn in (("user", "a" * (i % 7 + 1)), ("assistant", "b"))]
    calls = []

    def render(dialogue):
        calls.append(1)
        return _rows(dialogue)

    (row,), dropped = shortened(_dialogue(*turns), render, 50)
    rest = [len(_text(_render(_dialogue(*turns[first:])))) for first in (len(dropped) - 2, len(dropped))]
    assert rest[1] == len(row.input_ids) <= 50 < rest[0]
    assert len(calls) < 20
