"""A sandbox of Jinja for untrusted templates, with limits: each rendering ends.

Jinja's own sandbox hides Python's internals, but nested loops may run for years, and texts may double until memory is
full. Here each loop iteration, call and filter is a step; the steps and the CPU time of a rendering, the length of its
text and the size of every value in it are limited. The limits are far above those of published chat templates.
"""

from __future__ import annotations

import functools
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from jinja2 import Template, TemplateError, nodes, pass_context
from jinja2.runtime import LoopContext
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

STEPS = 1_000_000
SECONDS = 10.0  # CPU time of the rendering thread
SIZE = 2**24  # characters of the whole text, and characters and elements of one value
SOURCE = 2**20  # characters of a template
_ELEMENTS = 1_000_000  # of one value
_PRODUCT = 2**28  # of the sizes of two arguments of a function, which may repeat the one as often as the other says
_BITS = 2**16  # of an integer
_WIDE = re.compile(r"\d{6,}")  # a width or precision in a format


class TemplateLimitError(TemplateError):
    """A rendering exceeds a limit."""


@dataclass
class _Rendering:
    """What a rendering has used."""

    steps: int = 0
    characters: int = 0
    began: float = field(default_factory=time.thread_time)

    def step(self) -> None:
        self.steps += 1
        if self.steps > STEPS:
            raise TemplateLimitError(f"more than {STEPS:,} steps; does it end?")
        if time.thread_time() - self.began > SECONDS:
            raise TemplateLimitError(f"more than {SECONDS:g} seconds of computation; does it end?")


_RENDERING: ContextVar[_Rendering] = ContextVar("rendering")


class BoundedEnvironment(ImmutableSandboxedEnvironment):
    """A sandboxed environment whose templates are rendered by :func:`render` within limits; arguments as Jinja's."""

    intercepted_binops = frozenset(("+", "*", "**", "%"))

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        del self.globals["lipsum"]  # unbounded
        self.add_filters(self.filters)
        self.filters |= {"_counted": _counted, "_bounded": pass_context(_bounded), "_emitted": _emitted}

    def add_filters(self, filters: Mapping[str, Callable[..., Any]]) -> None:
        """Add filters; each use is a step, and arguments and results are limited."""
        self.filters |= {name: _limited(name, function) for name, function in filters.items()}

    def compiled(self, source: str) -> Template:
        """A template that counts its loop iterations and limits its values.

        Raises:
            TemplateError: the template is invalid, or too long.

        """
        if len(source) > SOURCE:
            raise TemplateLimitError(f"a template of more than {SOURCE:,} characters")
        with _template_errors():
            return self.from_string(_Counting().visit(self.parse(source)).set_environment(self))

    def call(__self, __context: Any, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805
        """Call an object within limits."""
        _RENDERING.get().step()
        if isinstance(__obj, LoopContext) and args:  # a recursive loop
            args = (_counted(__context, args[0]), *args[1:])
        owner = getattr(getattr(__obj, "__wrapped__", __obj), "__self__", None)
        if isinstance(owner, str):
            _check_arguments(getattr(__obj, "__name__", ""), owner, *args, *kwargs.values())
        return _bounded(__context, super().call(__context, __obj, *args, **kwargs))

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """Compute ``left operator right`` within limits."""
        if operator == "**" and isinstance(right, int) and right * getattr(left, "bit_length", int)() > _BITS:
            raise TemplateLimitError(f"an integer of more than {_BITS} bits")
        if operator == "*" and not (isinstance(left, (int, float)) and isinstance(right, (int, float))):
            _check_arguments("*", left, right)
        if operator == "%" and isinstance(left, str):
            _check_arguments("format", left, *(right if isinstance(right, tuple) else [right]))
        return _bounded(context, super().call_binop(context, operator, left, right))


def render(template: Template, variables: Mapping[str, Any]) -> str:
    """Render a template of :meth:`BoundedEnvironment.compiled`.

    Raises:
        TemplateError: the template raises an error, or exceeds a limit.

    """
    token = _RENDERING.set(_Rendering())
    try:
        with _template_errors():
            return template.render(variables)
    finally:
        _RENDERING.reset(token)


@contextmanager
def _template_errors() -> Iterator[None]:
    """Convert all exceptions; a template may raise anything, such as RecursionError or MemoryError."""
    try:
        yield
    except TemplateError:
        raise
    except Exception as error:
        raise TemplateError(str(error) or type(error).__name__) from error


class _Counting(NodeTransformer):
    """Wraps the iterables of loops, constructed values and emitted texts in the filters that limit them."""

    def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        node.iter = _filtered(node.iter, "_counted")
        return node

    def visit_Output(self, node: nodes.Output) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        node.nodes = [
            _filtered(nodes.Const(n.data) if isinstance(n, nodes.TemplateData) else n, "_emitted") for n in node.nodes
        ]
        return node

    def visit_AssignBlock(self, node: nodes.AssignBlock) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        node.filter = nodes.Filter(node.filter, "_bounded", [], [], None, None)
        return node

    def _bound(self, node: nodes.Expr) -> nodes.Node:
        self.generic_visit(node)
        # a target of an assignment, such as (a, b), is no value
        return node if getattr(node, "ctx", "load") != "load" else _filtered(node, "_bounded")

    visit_Concat = visit_List = visit_Tuple = visit_Dict = _bound  # noqa: N815


def _filtered(node: Any, name: str) -> nodes.Filter:
    return nodes.Filter(node, name, [], [], None, None, lineno=node.lineno)


@pass_context
def _counted(_context: Any, values: Iterable[Any]) -> Iterator[Any]:
    """The values of an iterable; each is a step."""
    rendering = _RENDERING.get()
    for value in values:
        rendering.step()
        yield value


@pass_context
def _emitted(_context: Any, value: Any) -> str:
    """A value as text, which counts for the length of the whole text."""
    rendering, text = _RENDERING.get(), str(value)
    rendering.characters += len(text)
    if rendering.characters > SIZE:
        raise TemplateLimitError(f"a text of more than {SIZE:,} characters")
    return text


def _bounded(_context: Any, value: Any) -> Any:
    """The value, if it is not too large; values that it contains several times count several times."""
    characters, elements, stack = 0, 1, [value]
    while stack:
        current = stack.pop()
        if isinstance(current, str):
            characters += len(current)
        elif isinstance(current, int) and current.bit_length() > _BITS:
            raise TemplateLimitError(f"an integer of more than {_BITS} bits")
        elif isinstance(current, (list, tuple, dict)):
            elements += len(current)
            if elements <= _ELEMENTS:
                stack += [*current, *current.values()] if isinstance(current, dict) else current
        if characters > SIZE or elements > _ELEMENTS:
            raise TemplateLimitError(f"a value of more than {SIZE:,} characters or {_ELEMENTS:,} elements")
    return value


def _collected(values: Iterator[Any]) -> list[Any]:
    """The values of a filter that computes them lazily; each is a step."""
    rendering, characters, collected = _RENDERING.get(), 0, []
    for value in values:
        rendering.step()
        characters += len(value) if isinstance(value, str) else 0
        if characters > SIZE:
            break
        collected.append(value)
    else:
        return collected
    raise TemplateLimitError(f"values of more than {SIZE:,} characters")


def _limited(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """A filter of which each use is a step, with limited arguments and result."""

    @functools.wraps(function)
    def limited(*args: Any, **kwargs: Any) -> Any:
        _RENDERING.get().step()
        # filters of a context or environment have it as the first argument
        _check_arguments(name, *(value for value in (*args, *kwargs.values()) if isinstance(value, _SIZED)))
        result = function(*args, **kwargs)
        return _bounded(None, _collected(result) if isinstance(result, Iterator) else result)

    return limited


_SIZED = (str, int, list, tuple, dict)


def _check_arguments(name: str, *values: Any) -> None:
    """Refuse arguments with which a function may compute too long a text, before it does."""
    sizes = [abs(v) if isinstance(v, int) else len(v) for v in values if isinstance(v, _SIZED)]
    longest = sorted(sizes, reverse=True)[:2]
    if len(longest) == 2 and longest[0] * longest[1] > _PRODUCT:
        raise TemplateLimitError(f"{name}: arguments of the sizes {longest[1]:,} and {longest[0]:,}")
    if name in ("format", "format_map") and isinstance(values[0], str) and _WIDE.search(values[0]):
        raise TemplateLimitError(f"{name}: a width of more than five digits")
