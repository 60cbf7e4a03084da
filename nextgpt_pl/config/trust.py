"""Instantiate untrusted configurations; names of classes and functions are checked before anything is imported.

A run's ``config.yaml`` and an evaluation's ``evaluation.yaml`` may come from a third party. They may name subclasses of
the declared types in this package, the functions in :data:`FUNCTIONS`, and the names that the caller trusts. All other
values must be plain: strings, numbers, lists and mappings. No other files or environment variables are read.
"""

from __future__ import annotations

import inspect
import re
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from nextgpt_pl.config.foreign import DOTTED_NAME, PACKAGE, ForeignNames, refusal
from nextgpt_pl.config.signatures import arguments, imported, names_code, takes_none, takes_text
from nextgpt_pl.config.yaml_files import parse_yaml
from nextgpt_pl.errors import UserError

#: functions of this package that an untrusted configuration may name; they have no side effects
FUNCTIONS = (
    "nextgpt_pl.decoders.spectrogram.log_mel",
    "nextgpt_pl.pocket.mel.compressed_mel",
    "nextgpt_pl.pocket.pretrain.mel.compressed_mel",  # its path in the configurations of version 0.1
)

#: classes of this package with side effects, which must be trusted by name: they send an API key to an address
SENDERS = ("nextgpt_pl.evaluation.judges.endpoint_judge.EndpointJudge",)

_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
_SPEC = {"class_path", "init_args"}


def instantiate(value: Any, kind: Any, where: str, trust: Sequence[str] = ()) -> Any:
    """Instantiate the objects that an untrusted configuration describes.

    Args:
        value: value read from YAML.
        kind: declared type, such as ``NextGPT`` or ``list[Task]``.
        where: key of the value, for messages.
        trust: dotted names of classes and functions outside this package that it may name.

    Raises:
        UserError: it names other classes or functions, or does not fit the type.

    """
    from jsonargparse import ArgumentError

    from nextgpt_pl.config.errors import explain
    from nextgpt_pl.config.parsers import ArgumentParser

    harmless = checked(value, kind, where, trust)
    parser = ArgumentParser(exit_on_error=False, parser_mode="yaml", default_env=False)
    key = where.rsplit(".", 1)[-1]
    parser.add_argument(f"--{key}", type=kind)
    try:
        return parser.instantiate(parser.parse_object({key: harmless}))[key]
    except UserError:
        raise
    except (ArgumentError, TypeError, ValueError) as error:
        raise UserError(explain(str(error))) from error


def checked(value: Any, kind: Any, where: str, trust: Sequence[str] = ()) -> Any:
    """The value with every class in the form ``class_path`` and ``init_args``, and every function resolved.

    Raises:
        UserError: it names a class or function that is not allowed, or its shape does not fit ``kind``.

    """
    check = _Check(trust)
    harmless = check.value(value, kind, where)
    check.foreign.check()
    return harmless


def foreign_names(value: Any, kind: Any, where: str) -> list[str]:
    """The classes and functions outside this package that a configuration names; nothing of them is imported.

    Args:
        value, kind, where: as for :func:`instantiate`.

    Raises:
        UserError: the configuration cannot be instantiated, whatever is trusted.

    """
    check = _Check()
    check.value(value, kind, where)
    return list(check.foreign)


class _Check:
    """Checks a value, and collects the names outside this package that are not trusted."""

    def __init__(self, trust: Sequence[str] = ()) -> None:
        self.foreign = ForeignNames(trust)

    def value(self, value: Any, kind: Any, where: str) -> Any:
        origin, inner = typing.get_origin(kind), typing.get_args(kind)
        if value is None and not takes_none(kind):
            raise UserError(f"{where}: null is not expected here")
        if not names_code(kind):
            return self.plain(value, where, text=takes_text(kind))
        if origin in (typing.Union, types.UnionType):
            (member,) = [part for part in inner if names_code(part)]
            return None if value is None and type(None) in inner else self.value(value, member, where)
        if origin is Callable or kind is Callable:
            return self.callable(value, inner[-1] if inner else None, where)
        if origin is None:
            return self.instance(value, kind, where)
        return self.container(value, origin, inner[-1], where)

    def container(self, value: Any, origin: type, kind: Any, where: str) -> Any:
        """Check a mapping or list whose members name classes."""
        if issubclass(origin, Mapping):
            if not isinstance(value, Mapping):
                raise UserError(f"{where}: a mapping is expected, got {value!r:.80}")
            return {_key(key, where): self.value(item, kind, f"{where}.{key}") for key, item in value.items()}
        if not isinstance(value, list):
            raise UserError(f"{where}: a list is expected, got {value!r:.80}")
        return [self.value(item, kind, f"{where}[{index}]") for index, item in enumerate(value)]

    def plain(self, value: Any, where: str, text: bool = True) -> Any:
        """Check a value of strings, numbers, lists and mappings; ``text``: whether it may itself be a string."""
        if isinstance(value, Mapping):
            if "class_path" in value:
                raise UserError(f"{where}: a plain value is expected here, not a class ({value['class_path']!r:.80})")
            return {_key(key, where): self.plain(item, f"{where}.{key}") for key, item in value.items()}
        if isinstance(value, list):
            return [self.plain(item, f"{where}[{index}]") for index, item in enumerate(value)]
        if isinstance(value, str):
            # the parser reads a string as YAML or as a file name if the type is not a string
            if not text and not _NUMBER.fullmatch(value) and value not in ("true", "false", "null"):
                raise UserError(f"{where}: a text is not expected here, got {value!r:.80}")
            if _hides_class(value):
                raise UserError(f"{where}: a plain value is expected here, not a class ({value!r:.80})")
        elif not isinstance(value, (bool, int, float, type(None))):
            raise UserError(f"{where}: a plain value is expected, got {value!r:.80}")
        return value

    def instance(self, value: Any, base: type, where: str) -> dict[str, Any]:
        """Check a class and its arguments."""
        if isinstance(value, str):
            value = {"class_path": value}
        if not isinstance(value, Mapping):
            raise UserError(f"{where}: class_path and init_args are expected, got {value!r:.80}")
        if not value.keys() & _SPEC:
            value = {"init_args": value}
        if unknown := sorted(map(str, value.keys() - _SPEC)):
            raise UserError(f"{where}.{unknown[0]}: beside class_path only init_args is allowed")
        init_args = value.get("init_args") or {}
        if not isinstance(init_args, Mapping):
            raise UserError(f"{where}.init_args: a mapping is expected, got {init_args!r:.80}")
        name = value.get("class_path")
        if name in self.foreign:
            self.foreign.add(value, where)
            return {}
        target = self.target(name, base, where) if "class_path" in value else base
        kinds = arguments(target)
        init = {_key(k, where): self.value(v, kinds.get(k, object), f"{where}.{k}") for k, v in init_args.items()}
        return {"class_path": f"{target.__module__}.{target.__qualname__}", "init_args": init}

    def callable(self, value: Any, returned: Any, where: str) -> Any:
        """Check a class that is instantiated later, or a function."""
        name = value.get("class_path") if isinstance(value, Mapping) else value
        if isinstance(value, str) and (value in FUNCTIONS or value in self.foreign.trust):
            target = imported(value, where)
            if not inspect.isclass(target):
                return target
        ours = inspect.isclass(returned) and returned.__module__.startswith(f"{PACKAGE}.")
        if ours or name in self.foreign.trust:
            return self.instance(value, returned if inspect.isclass(returned) else object, where)
        expected = f"one of {', '.join(FUNCTIONS)} is expected"
        if name not in self.foreign:
            raise refusal(name, where, expected)
        self.foreign.add(value, where, expected)
        return None

    def target(self, name: Any, base: type, where: str) -> Any:
        """The class of a name; names that are not allowed are refused before anything is imported."""
        if not isinstance(name, str) or not DOTTED_NAME.fullmatch(name):
            raise refusal(name, where, "a dotted name is expected")
        target = imported(name, where)
        if name in self.foreign.trust:
            return target
        # refuse names that a module of this package imports from other packages
        if not inspect.isclass(target) or not target.__module__.startswith(f"{PACKAGE}."):
            raise refusal(name, where, f"a class of {PACKAGE} is expected")
        if not issubclass(target, base):
            raise refusal(name, where, f"a {base.__name__} is expected")
        own = f"{target.__module__}.{target.__qualname__}"
        if own in SENDERS and own not in self.foreign.trust:
            reason = f"it sends an API key of yours to the address in it; if you know the address: --trust {own}"
            raise refusal(name, where, reason)
        return target


def _hides_class(value: Any) -> bool:
    """Whether a string, read as YAML, names a class."""
    if isinstance(value, str):
        try:
            parsed = parse_yaml(value)
        except UserError:
            return False
        return not isinstance(parsed, str) and _hides_class(parsed)
    if isinstance(value, Mapping):
        return "class_path" in value or any(map(_hides_class, value.values()))
    return isinstance(value, list) and any(map(_hides_class, value))


def _key(key: Any, where: str) -> str:
    if not isinstance(key, str):
        raise UserError(f"{where}: keys must be strings, got {key!r:.80}")
    return key
