"""Shorten conversations to a maximum number of tokens by dropping their oldest exchanges, never parts of a message."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import replace

from nextgpt_pl.batches import Rendered
from nextgpt_pl.errors import UserError
from nextgpt_pl.samples import Dialogue


class TooLongError(UserError):
    """The last exchange of a dialogue does not fit by itself."""


class ContextWarning(UserWarning):
    """A conversation is longer than the LLM's context; its oldest messages were dropped."""


def dropped_note(count: int) -> str:
    """The message for ``count`` dropped messages."""
    return f"the conversation is longer than the LLM's context; its {count} oldest messages are left out"


def exchanges(roles: Sequence[str]) -> list[list[int]]:
    """Positions of the messages of each exchange: consecutive user messages and the replies that follow them.

    System messages belong to no exchange. Assistant messages before the first user message are an exchange.
    """
    groups: list[list[int]] = []
    previous = None
    for position, role in enumerate(roles):
        if role == "system":
            continue
        if not groups or (role == "user" and previous != "user"):
            groups.append([])
        groups[-1].append(position)
        previous = role
    return groups


def shortened(
    dialogue: Dialogue, render: Callable[[Dialogue], Rendered], max_tokens: int
) -> tuple[Rendered, tuple[int, ...]]:
    """Render a dialogue and drop its oldest exchanges until it fits; system messages are kept.

    Args:
        dialogue: a training dialogue, or one that ends with the user's message.
        render: renders a dialogue as token ids.
        max_tokens: maximum length of the row.

    Returns:
        The row, and the positions of the dropped messages, ascending.

    Raises:
        TooLongError: the last exchange alone is longer; the message names its length and the maximum.

    """
    row = render(dialogue)
    if len(row.input_ids) <= max_tokens:
        return row, ()
    groups = exchanges([message.role for message in dialogue.messages])

    def without(count: int) -> tuple[Rendered, tuple[int, ...]]:
        dropped = tuple(position for group in groups[:count] for position in group)
        removed = frozenset(dropped)
        kept = tuple(m for position, m in enumerate(dialogue.messages) if position not in removed)
        return render(replace(dialogue, messages=kept)), dropped

    counts = range(1, len(groups))
    # each dropped exchange makes the row shorter, so binary search applies
    fitting = bisect_left(counts, True, key=lambda count: len(without(count)[0].input_ids) <= max_tokens)
    if fitting == len(counts):
        alone = without(len(groups) - 1)[0] if len(groups) > 1 else row
        raise TooLongError(
            f"{dialogue.key}: {len(alone.input_ids)} tokens"
            f"{' in the last exchange alone' if len(groups) > 1 else ''}, at most {max_tokens} fit"
        )
    return without(counts[fitting])
