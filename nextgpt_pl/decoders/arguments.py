"""Check arguments that are passed on to diffusers against its signatures, before weights are read."""

from __future__ import annotations

import inspect
import math
import types
from collections.abc import Callable, Collection, Mapping
from functools import lru_cache
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from nextgpt_pl.errors import UserError, nearest

# str comes first: the parser would otherwise convert the text "0x10" to a number
Plain = str | bool | int | float | list[int | float] | None
Arguments = dict[str, Plain]
Dtype = Literal["float32", "bfloat16", "float16"]

_POSITIVE = (
    *("num_inference_steps", "height", "width", "num_frames", "audio_length_in_s", "max_sequence_length"),
    *("speaking_rate", "length_scale"),
)
_SIDES, _SIDE_MULTIPLE = ("height", "width"), 8
# set by the decoder itself
_OWN_SUFFIXES = ("prompt", "prompt_2", "prompt_3", "prompt_4", "embeds", "embeds_2", "mask", "mask_2", "_per_prompt")
_OWN = ("self", "generator", "latents", "output_type", "return_dict")
_SIMPLE: dict[Any, str] = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}


def sampling_types(pipeline_class: Any) -> dict[str, Any]:
    """Names and types of the arguments of a pipeline's call that a YAML may set."""
    declared_types = declared(pipeline_class.__call__)
    own = {name for name in declared_types if name in _OWN or name.endswith(_OWN_SUFFIXES) or "callback" in name}
    return {name: kind for name, kind in declared_types.items() if name not in own and _described(kind)}


@lru_cache
def declared(function: Callable[..., Any]) -> Mapping[str, Any]:
    """Names and types of a function's arguments; the type of a default value is always accepted."""
    try:
        hints = get_type_hints(function)
    except (NameError, TypeError):  # an annotation that cannot be resolved
        hints = {}
    types_by_name = {}
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
            continue
        default = parameter.default
        default_type = Any if default is parameter.empty else type(default)
        hint = hints.get(name, Any if default is None else default_type)
        kind = hint if default_type is Any or _fits(default, hint) else Union[hint, default_type]  # noqa: UP007
        types_by_name[name] = kind
    return types_by_name


def check(values: Mapping[str, Any], known: Mapping[str, Any], where: str, owner: str) -> None:
    """Check that each value has a known name and the type that is declared for it.

    Args:
        values: name to plain value.
        known: names and types, see :func:`declared`.
        where: YAML key that holds the values.
        owner: name of the class that takes the arguments, for messages.

    Raises:
        UserError: a name is unknown, or a value is of another type, not finite or out of bounds.

    """
    for name in values:
        if name not in known:
            raise UserError(f"{where}.{name}: {owner} has no such argument{nearest(str(name), known)}")
        _check(values[name], known[name], f"{where}.{name}", name)


def check_options(batch: int | None, loss_batch: int, dtype: str, fps: float | None) -> None:
    """Check a decoder's own options.

    Raises:
        UserError: one is out of bounds; see :class:`~nextgpt_pl.decoders.diffusion.DiffusionDecoder`.

    """
    if batch is not None and batch < 1:
        raise UserError(f"decoder batch={batch}: at least 1, or null for as many as memory allows")
    if loss_batch < 1:
        raise UserError(f"decoder loss_batch={loss_batch}: at least 1")
    if dtype not in get_args(Dtype):
        raise UserError(f"decoder dtype={dtype!r}: one of {', '.join(get_args(Dtype))}")
    if fps is not None and not 0 < fps < math.inf:
        raise UserError(f"decoder fps={fps}: above 0")


def _check(value: Any, kind: Any, where: str, name: str) -> None:
    if not _fits(value, kind):
        raise UserError(f"{where}={value!r:.80}: want {_described(kind)}")
    if value is None or name not in _POSITIVE:
        return
    if value <= 0:
        raise UserError(f"{where}={value!r}: above 0")
    if name in _SIDES and value % _SIDE_MULTIPLE:
        raise UserError(f"{where}={value!r}: expected a multiple of {_SIDE_MULTIPLE} pixels")


def _fits(value: Any, kind: Any) -> bool:
    origin, parameters = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return any(_fits(value, member) for member in parameters)
    if origin is Literal:
        return value in parameters
    if origin in (list, tuple) or kind in (list, tuple):
        return isinstance(value, (list, tuple)) and _elements_fit(value, origin, parameters)
    return _is_scalar(value, kind)


def _is_scalar(value: Any, kind: Any) -> bool:
    """Whether a value has the type ``kind``; a bool is not a number, and numbers must be finite."""
    if isinstance(value, float) and not math.isfinite(value):
        return False
    if kind is Any:
        return True
    classes = (int, float) if kind is float else kind if isinstance(kind, type) else ()
    return isinstance(value, classes) and isinstance(value, bool) == (kind is bool)


def _elements_fit(values: Collection[Any], origin: Any, parameters: tuple[Any, ...]) -> bool:
    if origin is tuple and Ellipsis not in parameters:
        return len(values) == len(parameters) and all(map(_fits, values, parameters))
    element = parameters[0] if parameters else float
    return all(_fits(value, element) for value in values)


def _described(kind: Any) -> str:
    """The type in words; empty if no plain value has this type."""
    origin, parameters = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        texts = [text for text in map(_described, parameters) if text]
        return " or ".join(dict.fromkeys(texts)) + (" or null" if texts and type(None) in parameters else "")
    if origin is Literal:
        return "one of " + ", ".join(repr(value) for value in parameters)
    if origin in (list, tuple) or kind in (list, tuple):
        return "a list of numbers" if not parameters or set(parameters) <= {int, float, Ellipsis} else ""
    return "a plain value" if kind is Any else _SIMPLE.get(kind, "")
