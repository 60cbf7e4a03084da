"""Read untrusted YAML: plain values only, of bounded size."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from nextgpt_pl.errors import UserError, no_file

_PATH = 1024  # characters
_BYTES = 4 * 2**20
#: maximum number of values in a file with its aliases (``*name``) expanded; far above that of any experiment
LIMIT = 200_000


def parse_yaml(text: str) -> Any:
    """Parse YAML to a plain value.

    Raises:
        UserError: the text is not valid YAML, names Python objects, has a key twice in one mapping, or is too large
            with its aliases expanded.

    """
    try:
        with _loader(text) as loader:
            node = loader.get_single_node()
            if node is None:
                return None
            _bound(node)
            return loader.construct_document(node)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"not valid YAML: {_short(error)}") from error


@contextmanager
def _loader(text: str) -> Iterator[yaml.SafeLoader]:
    loader = yaml.SafeLoader(text)
    try:
        yield loader
    finally:
        loader.dispose()


def check_bounds(text: str) -> None:
    """Refuse a text with more than :data:`LIMIT` values when its aliases are expanded.

    Raises:
        yaml.YAMLError: there are more, or the text is not valid YAML.

    """
    if "&" not in text or "*" not in text:  # an alias needs an anchor
        return
    try:
        with _loader(text) as loader:
            node = loader.get_single_node()
            if node is not None:
                _bound(node)
    except (ValueError, RecursionError) as error:
        raise yaml.YAMLError(str(error)) from error


def read_yaml(path: Path) -> Any:
    """Parse a YAML file to a plain value.

    Raises:
        UserError: as :func:`parse_yaml`, or the file is missing, too large or not UTF-8; the message names the file.

    """
    text = read_text(path)
    try:
        return parse_yaml(text)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def check_files(path: Path) -> None:
    """Read a configuration and the YAML files that its values name, so that an error names the file that is at fault.

    Raises:
        UserError: as :func:`read_yaml`.

    """
    seen, pending = set[Path](), [path]
    while pending:
        file = pending.pop()
        if file.resolve() in seen:
            continue
        seen.add(file.resolve())
        names = [text for text in _texts(read_yaml(file)) if text.endswith((".yaml", ".yml"))]
        pending += [file.parent / name for name in names if len(name) < _PATH and (file.parent / name).is_file()]


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)


def read_text(path: Path) -> str:
    """Read a text file.

    Raises:
        UserError: it is missing, too large for a configuration, or not UTF-8; the message names the file.

    """
    if not path.is_file():
        raise UserError(f"{path}: a folder, not a file" if path.is_dir() else no_file(path))
    try:
        if path.stat().st_size > _BYTES:
            raise UserError(f"{path}: larger than {_BYTES // 2**20} MiB; expected a configuration")
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 at byte {error.start}; save it as UTF-8") from error
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error
    if "\0" in text:
        raise UserError(f"{path}: holds zero bytes; expected UTF-8 text")
    return text


def _bound(root: yaml.Node) -> None:
    """Refuse a document that has more than :data:`LIMIT` values with its aliases expanded, or that contains itself.

    A mapping with a key twice is refused too: YAML's parsers drop the first value silently.
    """
    sizes: dict[int, int] = {}
    open_nodes: set[int] = set()
    stack: list[tuple[yaml.Node, bool]] = [(root, False)]
    while stack:
        node, done = stack.pop()
        if done:
            open_nodes.discard(id(node))
            sizes[id(node)] = 1 + sum(sizes[id(child)] for child in _children(node))
            if sizes[id(node)] > LIMIT:
                raise UserError(f"more than {LIMIT:,} values when its aliases (*name) are expanded")
        elif id(node) not in sizes:
            if id(node) in open_nodes:
                raise UserError(f"an alias (*name) on line {node.start_mark.line + 1} contains itself")
            _check_keys(node)
            open_nodes.add(id(node))
            stack.append((node, True))
            stack += [(child, False) for child in _children(node)]


def _check_keys(node: yaml.Node) -> None:
    lines: dict[tuple[str, str], int] = {}
    for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
        if not isinstance(key, yaml.ScalarNode):
            continue
        name, line = (key.tag, key.value), key.start_mark.line + 1
        if name in lines:
            raise UserError(
                f"the key {key.value!r:.80} is given twice, on lines {lines[name]} and {line}; only one would count"
            )
        lines[name] = line


def _children(node: yaml.Node) -> Iterator[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield from (key, value)
    elif isinstance(node, yaml.SequenceNode):
        yield from node.value


def _short(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    place = f" (line {mark.line + 1}, column {mark.column + 1})" if mark is not None else ""
    return f"{getattr(error, 'problem', None) or str(error) or type(error).__name__}{place}"
