"""Conversations that are longer than a number of tokens lose their oldest exchanges, never a part of a message."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import replace

from nextgpt_pl.errors import UserError
from nextgpt_pl.samples import Dialogue, Rendered


class TooLongError(UserError):
    """The last exchange of a dialogue alone is too long."""


def exchanges(roles: Sequence[str]) -> list[list[int]]:
    """Positions of the messages of each exchange: what the user says in a row, and all that follows it.

    System messages are in none. What the assistant says before the user has said anything is an exchange of its own.
    """
    found: list[list[int]] = []
    previous = None
    for position, role in enumerate(roles):
        if role == "system":
            continue
        if not found or (role == "user" and previous != "user"):
            found.append([])
        found[-1].append(position)
        previous = role
    return found


def shortened(
    dialogue: Dialogue, render: Callable[[Dialogue], Rendered], max_tokens: int
) -> tuple[Rendered, tuple[int, ...]]:
    """Render a dialogue without as many of its oldest exchanges as it takes to fit; system messages stay.

    Args:
        dialogue: in training, or with the user's message at its end.
        render: to token ids.
        max_tokens: longest row.

    Returns:
        The row, and the positions of the messages that were dropped, ascending.

    Raises:
        TooLongError: the last exchange alone is longer; the message names both numbers.

    """
    row = render(dialogue)
    if len(row.input_ids) <= max_tokens:
        return row, ()
    groups = exchanges([message.role for message in dialogue.messages])

    def without(count: int) -> tuple[Rendered, tuple[int, ...]]:
        dropped = tuple(position for group in groups[:count] for position in group)
        gone = frozenset(dropped)
        kept = tuple(m for position, m in enumerate(dialogue.messages) if position not in gone)
        return render(replace(dialogue, messages=kept)), dropped

    counts = range(1, len(groups))
    # rows get shorter with each exchange that is dropped
    fitting = bisect_left(counts, True, key=lambda count: len(without(count)[0].input_ids) <= max_tokens)
    if fitting == len(counts):
        alone = without(len(groups) - 1)[0] if len(groups) > 1 else row
        raise TooLongError(
            f"{dialogue.key}: {len(alone.input_ids)} tokens"
            f"{' in the last exchange alone' if len(groups) > 1 else ''}, at most {max_tokens} fit"
        )
    return without(counts[fitting])
