"""The command line of a verb, made from its function's signature and docstring."""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import itertools
import types
import typing
from collections.abc import Callable, Collection, Sequence
from typing import Any, TypeVar

from nextgpt_pl.errors import UserError

T = TypeVar("T")


def call(
    function: Callable[..., T], argv: Sequence[str], positional: Sequence[str] = (), epilog: str = "", **given: Any
) -> T:
    """Parse a command line and call a function with it.

    Each parameter is an option ``--NAME`` of its annotated type, or a positional argument. A list takes several values,
    and its option may be repeated; a Boolean is a flag, ``--NAME`` or ``--no_NAME``. Parameters without a default are
    required. A parameter that is a dataclass has an option for each of the class's fields.

    Args:
        function: its docstring's first line and its ``Args`` section are the help text.
        argv: the verb and its arguments.
        positional: names of the parameters that are given without their name, in this order.
        epilog: text behind the help.
        given: parameters that the command line does not have, with their values.

    Raises:
        UserError: an argument is unknown, missing or of another type.

    """
    from nextgpt_pl.config.errors import parse_errors

    parser = parser_of(argv[0], function, epilog)
    groups = {name: kind for name, kind in typing.get_type_hints(function).items() if _is_dataclass(kind)}
    names = add_arguments(parser, function, positional, without={*given, *groups})
    fields = {name: add_arguments(parser, kind) for name, kind in groups.items()}
    with parse_errors([*names, *itertools.chain(*fields.values())]):
        values = parser.parse_args(list(argv[1:]))
    built = {name: options_of(values, kind) for name, kind in groups.items()}
    return function(**{name: values[name] for name in names}, **built, **given)


def helped(argv: Sequence[str], verb: str, options: type) -> bool:
    """Print the help of a verb that takes a YAML if it is asked for; returns whether it is.

    Args:
        argv: arguments behind the verb.
        verb: name, for messages.
        options: class of the verb's own options.

    Raises:
        UserError: the arguments name no YAML.

    """
    from nextgpt_pl.config.errors import config_files
    from nextgpt_pl.config.parsers import ArgumentParser

    if {"-h", "--help"} & set(argv):
        parser = ArgumentParser(prog=f"nextgpt_pl {verb}", usage=f"nextgpt_pl {verb} -c FILE [options] [keys of FILE]")
        parser.add_class_arguments(options)
        parser.print_help()
        return True
    if not config_files(argv):
        raise UserError(f"{verb}: give the YAML: -c FILE")
    return False


def options_of(config: Any, options: type[T]) -> T:
    """A verb's own options, from a configuration that has them among its keys."""
    return options(**{name: config[name] for name in inspect.signature(options).parameters})


def parser_of(verb: str, function: Callable[..., Any], epilog: str = "") -> Any:
    """An empty parser, described by the first line of a docstring; it raises errors and knows no abbreviations."""
    from nextgpt_pl.config.parsers import ArgumentParser

    return ArgumentParser(
        prog=f"nextgpt_pl {verb}",
        description=_docstring(function).short_description,
        epilog=epilog or None,
        exit_on_error=False,
        allow_abbrev=False,
    )


def add_arguments(
    parser: Any, function: Callable[..., Any], positional: Sequence[str] = (), without: Collection[str] = ()
) -> list[str]:
    """Add the parameters of a function or a dataclass to a parser, as :func:`call` describes, and return their names.

    Args:
        parser: from :func:`parser_of`.
        function: its signature gives the types and defaults, its docstring's ``Args`` section the help texts.
        positional: names of the positional arguments, in their order.
        without: names of parameters to leave out.

    """
    parameters, kinds = inspect.signature(function).parameters, typing.get_type_hints(function)
    texts = {entry.arg_name: entry.description for entry in _docstring(function).params}
    names = [name for name in parameters if name not in without]
    for name in (*positional, *(name for name in names if name not in positional)):
        options = {"help": texts.get(name), **_kind(kinds[name], parameters[name].default)}
        if name in positional:
            parser.add_argument(name, **options)
        else:
            if "nargs" in options:
                options["action"] = _Extend
            required = {"required": True} if parameters[name].default is inspect.Parameter.empty else {}
            parser.add_argument(f"--{name}", **options, **required)
    return names


class _Values(list[Any]):
    """Values of an option, as opposed to its default."""


class _Extend(argparse.Action):
    """Join the values of an option that is given several times."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: Any, values: Any, option_string: str | None = None
    ) -> None:
        before = getattr(namespace, self.dest, None)
        setattr(namespace, self.dest, _Values([*(before if isinstance(before, _Values) else ()), *values]))


def _docstring(function: Callable[..., Any]) -> Any:
    import docstring_parser

    return docstring_parser.parse(inspect.getdoc(function) or "")


def _is_dataclass(kind: Any) -> bool:
    return isinstance(kind, type) and dataclasses.is_dataclass(kind)


def _kind(kind: Any, default: Any) -> dict[str, Any]:
    """Arguments of ``add_argument`` for an annotation and a default."""
    from jsonargparse import ActionYesNo

    given = {} if default is inspect.Parameter.empty else {"default": default}
    if kind is bool:
        return {"action": ActionYesNo, **given}
    for member in typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,):
        if typing.get_origin(member) in (list, Sequence):
            return {"type": typing.get_args(member)[0], "nargs": "*" if given else "+", **given}
    return {"type": kind, **given}
