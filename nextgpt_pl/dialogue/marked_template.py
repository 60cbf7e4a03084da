"""A tokenizer's chat template, rendered with marks around each message and at each medium.

A mark in front of a message holds the message's number, since some templates reorder messages: they move the system's
text into the first or the last turn of the user.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from jinja2 import Template, TemplateError
from jinja2.defaults import DEFAULT_FILTERS, DEFAULT_NAMESPACE
from transformers.utils.chat_template_utils import _compile_jinja_template

from nextgpt_pl.dialogue.template_tokens import CLOSE, MEDIUM, OPEN, without_marks
from nextgpt_pl.errors import UserError
from nextgpt_pl.samples import Dialogue, Part, TextPart
from nextgpt_pl.utils.bounded_jinja import BoundedEnvironment, render

# what a piece of a rendered template is: a mark, or text between marks
MARKS = re.compile(f"({OPEN}[0-9]+{OPEN}|{CLOSE}|{MEDIUM})")
_BORDERS = re.compile(f"{OPEN}[0-9]+{OPEN}|{CLOSE}")
_REPLY = "reply 1"
_TALK = ("system", "rule"), ("user", "question 1"), ("assistant", _REPLY), ("user", "question 2"), ("assistant", "no")


def opened(piece: str) -> int | None:
    """The number of the message that a mark opens; ``None``: it opens none."""
    return int(piece[1:-1]) if piece.startswith(OPEN) else None


def marked_text(tokenizer: Any, dialogue: Dialogue, *, add_generation_prompt: bool) -> str:
    """The rendered template with its marks.

    Raises:
        UserError: the template refuses the messages.

    """
    roles = [message.role for message in dialogue.messages]
    contents = ["".join(map(_marked_part, message.parts)) for message in dialogue.messages]

    def with_marks(number: int, text: str) -> str:
        return f"{OPEN}{number}{OPEN}{text}{CLOSE}"

    def applied(content: Callable[[int, str], str]) -> str:
        texts = [content(number, text) for number, text in enumerate(contents)]
        try:
            return _applied(tokenizer, roles, texts, add_generation_prompt)
        except TemplateError as error:
            raise UserError(f"{dialogue.key}: the chat template refuses the messages: {error}") from error

    marked = applied(with_marks)
    if any(text != text.strip() for text in contents):
        # marks prevent a template from stripping messages; if it strips, strip them before marking
        plain, trimmed = applied(lambda _, text: text), applied(lambda number, text: with_marks(number, text.strip()))
        if _BORDERS.sub("", marked) != plain == _BORDERS.sub("", trimmed):
            return trimmed
    return marked


def turns_change(tokenizer: Any, system: bool) -> bool:
    """Whether the template writes what stands before or in a reply in another way once other turns follow.

    Templates with thoughts drop them from earlier turns; others move the system's text to the last turn.

    Args:
        tokenizer: with the chat template.
        system: whether the system speaks first.

    """
    roles, texts = zip(*_TALK[not system :], strict=True)
    try:
        first, both = (_applied(tokenizer, roles[:end], texts[:end], False) for end in (len(roles) - 2, len(roles)))
    except TemplateError:
        return False  # a dialogue of this kind is refused where it is rendered
    return _REPLY in first and not both.startswith(first[: first.rindex(_REPLY) + len(_REPLY)])


def text_after_reply(tokenizer: Any) -> str:
    """What the template writes after a reply that ends a conversation."""
    try:
        text = _applied(tokenizer, ("user", "assistant"), ("question 1", _REPLY), False)
    except TemplateError:
        return ""
    return text.rpartition(_REPLY)[2]


def _applied(tokenizer: Any, roles: Sequence[str], contents: Sequence[str], add_generation_prompt: bool) -> str:
    """The rendered template; replies have no thoughts, where a template distinguishes that."""
    messages = [{"role": role, "content": text} for role, text in zip(roles, contents, strict=True)]
    options = {"add_generation_prompt": add_generation_prompt, "enable_thinking": False, "tools": None}
    variables = {**tokenizer.special_tokens_map, "messages": messages, "documents": None, **options}
    return render(_compiled(tokenizer.get_chat_template()), variables)


@lru_cache(64)
def _compiled(source: str) -> Template:
    """A chat template with the functions and filters of transformers, and limits; see :class:`BoundedEnvironment`.

    Raises:
        TemplateError: the template is invalid.

    """
    usual = _compile_jinja_template("").environment
    environment = BoundedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[type(each) for each in usual.extensions.values()]
    )
    environment.add_filters({name: f for name, f in usual.filters.items() if DEFAULT_FILTERS.get(name) is not f})
    environment.globals |= {name: f for name, f in usual.globals.items() if DEFAULT_NAMESPACE.get(name) is not f}
    return environment.compiled(source)


def _marked_part(part: Part) -> str:
    return without_marks(part.text) if isinstance(part, TextPart) else MEDIUM
