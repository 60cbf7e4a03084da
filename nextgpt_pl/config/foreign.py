"""Names of classes and functions outside this package in an untrusted configuration."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from nextgpt_pl.errors import UserError

PACKAGE = "nextgpt_pl"
DOTTED_NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")
_SHOWN = 20  # maximum number of names in a message


def refusal(name: Any, where: str, reason: str) -> UserError:
    """The error of a name that is refused, whatever is trusted."""
    return UserError(f"{where}: {name!r:.80} is refused in a configuration that is read as data: {reason}")


class ForeignNames:
    """Collects names outside this package that are not trusted; nothing is imported.

    Args:
        trust: names that are allowed.

    Raises:
        UserError: a name in ``trust`` is not a dotted name.

    """

    def __init__(self, trust: Sequence[str]) -> None:
        for name in trust:
            if not DOTTED_NAME.fullmatch(name):
                raise UserError(f"trust={name!r}: a dotted name is expected, such as my_package.MyEncoder")
        self.trust = tuple(trust)
        self._found: dict[str, UserError] = {}

    def __contains__(self, name: Any) -> bool:
        """Whether a name is outside this package and not trusted."""
        dotted = isinstance(name, str) and DOTTED_NAME.fullmatch(name) is not None
        return dotted and not name.startswith(f"{PACKAGE}.") and name not in self.trust

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def add(self, value: Any, where: str, reason: str = f"it is not of {PACKAGE}") -> None:
        """Collect the name of a class or function, and those of the classes in its arguments.

        Args:
            value: the name, or its ``class_path`` and ``init_args``.
            where: key of the value.
            reason: why the name is refused.

        """
        self._add(value if isinstance(value, Mapping) else {"class_path": value}, where, reason)

    def _add(self, value: Any, where: str, reason: str) -> None:
        if isinstance(value, Mapping):
            name = value.get("class_path")
            if name in self:
                self._found.setdefault(str(name), refusal(name, where, reason))
            for key, item in value.items():
                self._add(item, where if key == "init_args" else f"{where}.{key}", reason)
        elif isinstance(value, list):
            for index, item in enumerate(value):
                self._add(item, f"{where}[{index}]", reason)

    def check(self) -> None:
        """Raise a :class:`UserError` with all names, if there are any."""
        if not self._found:
            return
        shown = list(self._found)[:_SHOWN]
        lines = [str(self._found[name]) for name in shown]
        if more := len(self._found) - len(shown):
            lines.append(f"and {more} more")
        them = "what it does, allow it" if len(self._found) == 1 else "what they do, allow them"
        lines[-1] += f"; if you know {them} by name: trust={shown}, or --trust {' '.join(shown)}"
        raise UserError("\n".join(lines))
