"""The command line of a verb, made from its function's signature and docstring."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from nextgpt_pl.errors import UserError

T = TypeVar("T")


def call(
    function: Callable[..., T], argv: Sequence[str], positional: Sequence[str] = (), epilog: str = "", **given: Any
) -> T:
    """Parse a command line and call a function with it.

    Each parameter is an option ``--NAME`` of its annotated type, or a positional argument. A list takes several values;
    a Boolean is a flag, ``--NAME`` or ``--no_NAME``. Parameters without a default are required.

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

    names = [name for name in inspect.signature(function).parameters if name not in given]
    parser = _parser(function, argv[0], names, positional, epilog)
    with parse_errors(names):
        values = parser.parse_args(list(argv[1:]))
    return function(**{name: values[name] for name in names}, **given)


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


def _parser(
    function: Callable[..., Any], verb: str, names: Sequence[str], positional: Sequence[str], epilog: str
) -> Any:
    import docstring_parser

    from nextgpt_pl.config.parsers import ArgumentParser

    described = docstring_parser.parse(inspect.getdoc(function) or "")
    texts = {entry.arg_name: entry.description for entry in described.params}
    parser = ArgumentParser(
        prog=f"nextgpt_pl {verb}",
        description=described.short_description,
        epilog=epilog or None,
        exit_on_error=False,
        allow_abbrev=False,
    )
    kinds = typing.get_type_hints(function)
    parameters = inspect.signature(function).parameters
    for name in (*positional, *(name for name in names if name not in positional)):
        options = {"help": texts.get(name), **_kind(kinds[name], parameters[name].default)}
        if name in positional:
            parser.add_argument(name, **options)
        else:
            required = {"required": True} if parameters[name].default is inspect.Parameter.empty else {}
            parser.add_argument(f"--{name}", **options, **required)
    return parser


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
