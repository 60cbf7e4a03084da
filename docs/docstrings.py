"""Docstrings as Markdown, for the reference pages: what mkdocstrings calls for each object that it has read."""

from __future__ import annotations

import re
from typing import Any

import griffe

_ROLE = re.compile(r":(?:class|meth|func|mod|attr|data):`~?")
_EXAMPLE = re.compile(r"^>>> .*(?:\n(?=\S).*)*", re.MULTILINE)


def as_markdown(docstring: str) -> str:
    """Sphinx roles, such as ``:class:`Stage```, as code, and examples (``>>>``) as fenced blocks."""
    return _EXAMPLE.sub(lambda example: f"```pycon\n{example.group()}\n```", _ROLE.sub("`", docstring))


class MarkdownDocstrings(griffe.Extension):
    """Applies :func:`as_markdown` to every docstring."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """The hook of griffe for modules, classes, functions and attributes."""
        if obj.docstring is not None:
            obj.docstring.value = as_markdown(obj.docstring.value)
