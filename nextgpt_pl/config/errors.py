"""Short messages for the parser's errors: the key, its value and what is expected."""

from __future__ import annotations

import importlib
import inspect
import itertools
import re
from argparse import ArgumentError
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import cast

from omegaconf.errors import OmegaConfBaseException

from nextgpt_pl.errors import UserError, nearest

_KEY = re.compile(r'Parser key "([^"]+)"')
_CLASS = re.compile(r"given class_path '([^']+)'")
_UNKNOWN = re.compile(r"Option '([^']+)' is not accepted")
_CALLABLE = re.compile(r"Got value: Namespace\(class_path='([^']+)'")
_TYPE = re.compile(r"Expected an? (.+?)\. Got value: (.+)")
_NO_FILE = re.compile(r"Expected a path but (\S+) either not accessible")
_UNION = re.compile(r"^\s*-?\s*Expected an? (<class '[^']+'>|typing\.\w+\[.+\])\s*$", re.MULTILINE)
# a line of the parser's report that gives a reason, not only the types that were tried
_REASON = re.compile(
    r"^(?!\s*$|\s*(- *)?(Parser key|Problem with given class_path|Does not validate|Subtypes:|Errors:|Expected an? "
    r"|Given value))",
    re.MULTILINE,
)
_GIVEN = re.compile(r"^\s*Given value: (.+)$", re.MULTILINE)
_LOOP = "Config file loop detected"
_NO_CONFIG = re.compile(r"Unable to load config ['\"](.*?)['\"]")
_NO_CLASS = re.compile(r"module '([\w.]+)' has no attribute '(\w+)'")
_UNRECOGNISED = re.compile(
    r"(?:[Uu]nrecognized arguments:|Key not expected:|does not accept nested key) *'?-*([\w.-]+)"
)
_REQUIRED = re.compile(r"arguments are required: ((?:fit\.|validate\.)?(?:data|model|tasks)\b.*)")
_BOILERPLATE = re.compile(
    r"^\s*-?\s*(Does not validate against any|Subtypes:|Errors:|Expected a <class 'NoneType'>|Given value)"
)


def config_files(argv: Sequence[str]) -> list[Path]:
    """The values of ``-c FILE``, ``--config FILE`` and ``--config=FILE``."""
    paths = [Path(value) for flag, value in itertools.pairwise(argv) if flag in ("-c", "--config")]
    return paths + [Path(a.removeprefix("--config=")) for a in argv if a.startswith("--config=")]


@contextmanager
def parse_errors(known_keys: Sequence[str] = ()) -> Iterator[None]:
    """Convert a parser's exceptions to a :class:`UserError`; the block must only parse, not instantiate anything.

    Args:
        known_keys: see :func:`explain`.

    """
    # jsonargparse checks a value by converting it to each type, which may raise any of these
    parser_errors = (ArgumentError, TypeError, ValueError, KeyError, AttributeError, RecursionError, ImportError)
    try:
        yield
    except OmegaConfBaseException as error:
        raise UserError(f"{error.full_key}: {str(error).splitlines()[0]}") from error
    except UserError:
        raise
    except parser_errors as error:
        raise UserError(explain(_report(error), known_keys) or type(error).__name__) from error


def _report(error: BaseException) -> str:
    """The parser's message, with the reason why a file's content is invalid.

    The parser reads a file again if its content is invalid, and then reports a loop of files instead of the reason.
    """
    text, inner = str(error), cast("BaseException | None", error)
    while inner is not None:
        if str(inner).startswith(_LOOP) and isinstance(inner.__context__, ValueError):
            return text.replace(str(inner), str(inner.__context__))
        inner = inner.__cause__ or inner.__context__
    return text


def explain(message: str, known_keys: Sequence[str] = ()) -> str:
    """Summarise the parser's nested report in one or two sentences.

    Args:
        message: the parser's report.
        known_keys: all dotted keys of the verb, to find the nearest to one that does not exist.

    """
    keys = [key for key in _KEY.findall(message) if key != "config"]
    path = ".".join(keys)
    if path and (match := _UNKNOWN.search(message)):
        classes = _CALLABLE.findall(message) or _CLASS.findall(message)
        close = nearest(match[1], _parameters(classes[-1])) if classes else ""
        return f"{path}.{match[1]}: no such key{_with_prefix(close, path)}{_value(message)}"
    if match := _NO_CLASS.search(message):
        return f"{path}.class_path: no {match[2]!r} in {match[1]}{nearest(match[2], _public(match[1]))}"
    if about_value := _about_value(message, path):
        return about_value
    if about_arguments := _about_arguments(message, known_keys):
        return about_arguments
    lines = [line.strip(" -") for line in message.splitlines() if line.strip() and not _BOILERPLATE.match(line)]
    return "\n  ".join(lines)


def _about_arguments(message: str, known: Sequence[str]) -> str:
    """The key of no part of the configuration, or what is not given; empty if the report is about something else."""
    if match := _UNRECOGNISED.search(message) or _UNKNOWN.search(message):
        key, close = match[1], nearest(match[1], known)
        if "did you mean" not in close:
            close = nearest(key, [other for other in known if other.count(".") == key.count(".")])
        return f"{key}: no such key{close}"
    if match := _REQUIRED.search(message):
        names = [name.rpartition(".")[2] for name in match[1].split(", ")]
        return f"{' and '.join(names)}: not given; the YAML gives what a verb needs: -c FILE"
    return ""


def _about_value(message: str, path: str) -> str:
    """The expected type of a value; empty if the report is about something else."""
    return _about_one(message, path) or _about_union(message, path)


def _about_one(message: str, path: str) -> str:
    if match := _NO_FILE.search(message):
        if match[1].endswith((".yaml", ".yml")) or "/" in match[1]:
            return f"{path}: no such file: {match[1]}"
        return f"{path}: a class, a mapping or a YAML file is expected, got {match[1]!r}"
    if match := _TYPE.search(message):
        return f"{path}: {_plain_type(match[1])} is expected, got {match[2]!r}"
    if match := _NO_CONFIG.search(message):
        return f"{path.split('.', maxsplit=1)[0]}: a mapping or a YAML file is expected, got {match[1]!r}"
    return ""


def _about_union(message: str, path: str) -> str:
    types, given = _UNION.findall(message), _GIVEN.search(message)
    if not (path and types and given) or _REASON.search(message):
        return ""
    if given[1].startswith("Namespace("):
        return f"{path}: a single key of it cannot be set on the command line; give the whole mapping"
    expected = dict.fromkeys(_plain_type(name) for name in types)
    return f"{path}: {' or '.join(expected)} is expected, got {given[1]!r:.80}"


def _with_prefix(clause: str, path: str) -> str:
    """``did you mean 'lr'`` as ``did you mean 'model.lr'``."""
    return clause.replace("did you mean '", f"did you mean '{path}.")


def _value(message: str) -> str:
    match = re.search(r"NestedArg\(key='[^']*', val='([^']*)'\)", message)
    return f" (value {match[1]!r})" if match else ""


def _plain_type(text: str) -> str:
    text = re.sub(r"typing\.Literal\[(.+?)\]", r"one of \1", text)
    text = re.sub(r"<class '([^']+)'>", lambda m: m[1].rsplit(".", 1)[-1], text)
    return "null" if text == "NoneType" else text


def _parameters(class_path: str) -> Iterable[str]:
    """Argument names of a class or function, including those that ``**kwargs`` passes to base classes."""
    module, _, class_name = class_path.rpartition(".")
    try:
        target = getattr(importlib.import_module(module), class_name)
        classes = target.__mro__ if inspect.isclass(target) else ()
        constructors = [vars(c)["__init__"] for c in classes if "__init__" in vars(c)] or [target]
        names: list[str] = []
        for constructor in constructors:
            parameters = inspect.signature(constructor).parameters
            names += [p for p in parameters if p not in ("self", "args", "kwargs")]
            if "kwargs" not in parameters:
                break
    except (ImportError, AttributeError, ValueError):
        return ()
    return names


def _public(module: str) -> Iterable[str]:
    return [name for name in dir(importlib.import_module(module)) if not name.startswith("_")]
