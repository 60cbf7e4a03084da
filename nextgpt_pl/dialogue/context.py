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


def longest(rows: Sequence[Rendered]) -> int:
    """Number of tokens of the longest row."""
    return max(len(row.input_ids) for row in rows)


def shortened(
    dialogue: Dialogue, render: Callable[[Dialogue], Sequence[Rendered]], max_tokens: int
) -> tuple[tuple[Rendered, ...], tuple[int, ...]]:
    """Render a dialogue and drop its oldest exchanges until its rows fit; system messages are kept.

    Args:
        dialogue: a training dialogue, or one that ends with the user's message.
        render: renders a dialogue as rows of token ids.
        max_tokens: maximum length of a row.

    Returns:
        The rows, and the positions of the dropped messages, ascending.

    Raises:
        TooLongError: the last exchange alone is longer; the message names its length and the maximum.

    """
    rows = tuple(render(dialogue))
    if longest(rows) <= max_tokens:
        return rows, ()
    groups = exchanges([message.role for message in dialogue.messages])

    def without(count: int) -> tuple[tuple[Rendered, ...], tuple[int, ...]]:
        dropped = tuple(position for group in groups[:count] for position in group)
        removed = frozenset(dropped)
        kept = tuple(m for position, m in enumerate(dialogue.messages) if position not in removed)
        return tuple(render(replace(dialogue, messages=kept))), dropped

    counts = range(1, len(groups))
    # each dropped exchange makes the rows shorter, so binary search applies
    fitting = bisect_left(counts, True, key=lambda count: longest(without(count)[0]) <= max_tokens)
    if fitting == len(counts):
        alone = without(len(groups) - 1)[0] if len(groups) > 1 else rows
        raise TooLongError(
            f"{dialogue.key}: {longest(alone)} tokens"
            f"{' in the last exchange alone' if len(groups) > 1 else ''}, at most {max_tokens} fit"
        )
    return without(counts[fitting])


def prompt_within(
    dialogue: Dialogue, render: Callable[[Dialogue], Rendered], context: int | None, max_new_tokens: int
) -> tuple[Rendered, tuple[int, ...]]:
    """A prompt that leaves room for a reply in the LLM's context; see :func:`shortened`.

    Args:
        dialogue: ends with the user's message.
        render: renders it as a prompt.
        context: number of tokens of the LLM's context; ``None``: unlimited.
        max_new_tokens: number of tokens of the reply.

    Returns:
        The prompt, and the positions of the dropped messages, ascending.

    Raises:
        TooLongError: the last exchange alone does not fit.
        UserError: the reply alone does not fit.

    """
    if context is None:
        return render(dialogue), ()
    if max_new_tokens >= context:
        raise UserError(f"max_new_tokens={max_new_tokens}: the LLM's context is {context} tokens, prompt included")
    try:
        (prompt,), dropped = shortened(dialogue, lambda kept: [render(kept)], context - max_new_tokens)
    except TooLongError as error:
        raise TooLongError(
            f"{error}: the LLM's context is {context} tokens, {max_new_tokens} of them for the reply (max_new_tokens)"
        ) from None
    return prompt, dropped
