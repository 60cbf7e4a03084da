"""Makes the parser's messages short: which key, which value, and what would be right."""

from __future__ import annotations

import importlib
import inspect
import re
from argparse import ArgumentError
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from omegaconf.errors import OmegaConfBaseException

from nextgpt_pl.errors import UserError, nearest

_KEY = re.compile(r'Parser key "([^"]+)"')
_CLASS = re.compile(r"given class_path '([^']+)'")
_UNKNOWN = re.compile(r"Option '([^']+)' is not accepted")
_CALLABLE = re.compile(r"Got value: Namespace\(class_path='([^']+)'")
_TYPE = re.compile(r"Expected an? (.+?)\. Got value: (.+)")
_NO_FILE = re.compile(r"Expected a path but (\S+) either not accessible")
_NO_CLASS = re.compile(r"module '([\w.]+)' has no attribute '(\w+)'")
_UNRECOGNISED = re.compile(r"(?:[Uu]nrecognized arguments:|Key not expected:|does not accept nested key) *'?-*([\w.]+)")
_BOILERPLATE = re.compile(
    r"^\s*-?\s*(Does not validate against any|Subtypes:|Errors:|Expected a <class 'NoneType'>|Given value)"
)


@contextmanager
def parse_errors(known_keys: Sequence[str] = ()) -> Iterator[None]:
    """What a parser raises, as a :class:`UserError` of one sentence; for blocks that parse and make nothing.

    Args:
        known_keys: see :func:`explain`.

    """
    # values are checked against types by trying: what goes wrong in it is of many types
    wrong = (ArgumentError, TypeError, ValueError, KeyError, AttributeError, RecursionError, ImportError)
    try:
        yield
    except OmegaConfBaseException as error:
        raise UserError(f"{error.full_key}: {str(error).splitlines()[0]}") from error
    except UserError:
        raise
    except wrong as error:
        raise UserError(explain(str(error), known_keys) or type(error).__name__) from error


def explain(message: str, known_keys: Sequence[str] = ()) -> str:
    """One sentence or two instead of the parser's nested report.

    Args:
        message: the parser's.
        known_keys: all dotted keys of the verb, to find the nearest to one that does not exist.

    """
    keys = [key for key in _KEY.findall(message) if key != "config"]
    path = ".".join(keys)
    if found := _UNKNOWN.search(message):
        classes = _CALLABLE.findall(message) or _CLASS.findall(message)
        close = nearest(found[1], _parameters(classes[-1])) if classes else ""
        return f"{path}.{found[1]}: no such key{_with_prefix(close, path)}{_value(message)}"
    if found := _NO_FILE.search(message):
        return f"{path}: no such file: {found[1]}"
    if found := _NO_CLASS.search(message):
        return f"{path}.class_path: no {found[2]!r} in {found[1]}{nearest(found[2], _public(found[1]))}"
    if found := _TYPE.search(message):
        return f"{path}: {_plain_type(found[1])} is expected, got {found[2]!r}"
    if found := _UNRECOGNISED.search(message):
        return f"{found[1]}: no such key{nearest(found[1], known_keys)}"
    lines = [line.strip(" -") for line in message.splitlines() if line.strip() and not _BOILERPLATE.match(line)]
    return "\n  ".join(lines)


def _with_prefix(clause: str, path: str) -> str:
    """``did you mean 'lr'`` as ``did you mean 'model.lr'``."""
    return clause.replace("did you mean '", f"did you mean '{path}.")


def _value(message: str) -> str:
    found = re.search(r"NestedArg\(key='[^']*', val='([^']*)'\)", message)
    return f" (value {found[1]!r})" if found else ""


def _plain_type(text: str) -> str:
    return re.sub(r"<class '([^']+)'>", lambda m: m[1].rsplit(".", 1)[-1], text)


def _parameters(class_path: str) -> Iterable[str]:
    """Names that a class or function takes; those that a constructor passes on as ``**kwargs`` are its base's."""
    module, _, name = class_path.rpartition(".")
    try:
        target = getattr(importlib.import_module(module), name)
        classes = target.__mro__ if inspect.isclass(target) else ()
        makers = [vars(c)["__init__"] for c in classes if "__init__" in vars(c)] or [target]
        found: list[str] = []
        for maker in makers:
            parameters = inspect.signature(maker).parameters
            found += [p for p in parameters if p not in ("self", "args", "kwargs")]
            if "kwargs" not in parameters:
                break
    except (ImportError, AttributeError, ValueError):
        return ()
    return found


def _public(module: str) -> Iterable[str]:
    return [name for name in dir(importlib.import_module(module)) if not name.startswith("_")]
