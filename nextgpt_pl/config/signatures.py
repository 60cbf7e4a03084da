"""Declared argument types of classes and functions, which a configuration's values are checked against."""

from __future__ import annotations

import importlib
import inspect
import types
import typing
from collections.abc import Callable, Mapping
from enum import Enum
from pathlib import Path
from typing import Any

from nextgpt_pl.errors import UserError

_SCALARS = (str, int, float, bool, bytes, type(None), Path, Enum)
_CONTAINERS = (list, tuple, set, frozenset, dict)


def arguments(target: Any) -> dict[str, Any]:
    """Declared types of a class's or function's arguments, including those that ``**kwargs`` passes to base classes.

    Empty if an annotation cannot be resolved; all arguments then count as plain values.
    """
    classes = target.__mro__ if inspect.isclass(target) else ()
    constructors = [vars(c)["__init__"] for c in classes if "__init__" in vars(c) and c is not object] or [target]
    types_by_name: dict[str, Any] = {}
    for constructor in constructors:
        try:
            kinds = typing.get_type_hints(constructor)
            parameters = inspect.signature(constructor).parameters
        except (NameError, TypeError, ValueError):
            return {}
        types_by_name = {name: kinds[name] for name in parameters if name in kinds} | types_by_name
        if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
            break
    return types_by_name


def names_code(kind: Any) -> bool:
    """Whether values of this type name a class or a function, at the top level or nested."""
    if typing.get_origin(kind) is typing.Literal:
        return False
    if typing.get_origin(kind) is Callable:
        return True
    if inner := typing.get_args(kind):
        return any(names_code(part) for part in inner)
    return inspect.isclass(kind) and kind not in (object, Any) and not issubclass(kind, (*_SCALARS, *_CONTAINERS))


def takes_text(kind: Any) -> bool:
    """Whether a string is a value of this type."""
    if typing.get_origin(kind) is typing.Literal or kind in (object, Any):
        return True
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return any(takes_text(part) for part in typing.get_args(kind))
    return inspect.isclass(kind) and issubclass(kind, (str, Path, Enum))


def takes_none(kind: Any) -> bool:
    """Whether null is a value of this type."""
    if kind in (object, Any, type(None), None):
        return True
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return any(takes_none(part) for part in typing.get_args(kind))
    return typing.get_origin(kind) is typing.Literal and None in typing.get_args(kind)


def check_nulls(settings: Mapping[str, Any], target: Any, where: str) -> None:
    """Refuse null for arguments whose type does not include it; the parser accepts null for any type.

    Args:
        settings: arguments by name.
        target: the class or function.
        where: key of the settings, for messages.

    Raises:
        UserError: naming the key.

    """
    kinds = arguments(target)
    for name, value in settings.items():
        if value is None and name in kinds and not takes_none(kinds[name]):
            raise UserError(f"{where}.{name}: null is not expected here")
        check_nested_nulls(value, f"{where}.{name}")


def check_nested_nulls(value: Any, where: str) -> None:
    """:func:`check_nulls` for the arguments of every ``class_path`` in a value.

    Raises:
        UserError: naming the key.

    """
    if isinstance(value, list):
        for index, item in enumerate(value):
            check_nested_nulls(item, f"{where}[{index}]")
        return
    items = _items(value)
    if isinstance(items.get("class_path"), str):
        check_nulls(_items(items.get("init_args")), imported(items["class_path"], where), where)
    else:
        for name, item in items.items():
            check_nested_nulls(item, f"{where}.{name}")


def _items(value: Any) -> Mapping[str, Any]:
    """The items of a mapping or a parser's namespace; empty for any other value."""
    if isinstance(value, Mapping):
        return value
    return vars(value) if type(value).__name__ == "Namespace" else {}


def imported(name: str, where: str) -> Any:
    """The object of ``module.name``.

    Raises:
        UserError: there is none.

    """
    module, _, attribute = name.rpartition(".")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise UserError(f"{where}: {name!r} cannot be imported ({error})") from error
