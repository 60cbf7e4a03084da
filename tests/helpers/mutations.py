"""Hypothesis strategies that change valid configurations, rows and files."""

import copy
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import yaml
from hypothesis import strategies as st

HUGE_NUMBER = "1" + "0" * 5000

TEXTS = st.one_of(
    st.text(max_size=8),
    st.sampled_from(
        ["", "yes", "None", "0x10", "1e400", "a/b", "..", "nope.yaml", "pocket:llm", "/etc", "${x}", "${", "-"]
    ),
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.sampled_from([-(10**9), 2**32, 10**9, 10**18, -0.0, 1e-300, 1e300, float("nan"), float("inf"), -0.5, 1.5]),
    TEXTS,
)
NAMES = st.sampled_from(["lr", "width", "height", "path", "image", "class_path", "init_args", "nope"])
#: what would leave the file ``executed`` in the working directory
COMMANDS = [
    {"class_path": "os.system", "init_args": {"command": "touch executed"}},
    {"class_path": "subprocess.Popen", "init_args": {"args": "touch executed", "shell": True}},
    {"class_path": "subprocess.run", "init_args": {"args": ["touch", "executed"]}},
    {"class_path": "builtins.eval", "init_args": {"source": "open('executed', 'w')"}},
]
CLASSES = st.builds(
    lambda name, arguments: {"class_path": name, "init_args": arguments},
    st.sampled_from(
        [
            "torch.nn.Linear",
            "nextgpt_pl.llm.CausalLM",
            "nextgpt_pl.encoders.ImageBindEncoder",
            "nextgpt_pl.projections.MLPOutputProjection",
            "nextgpt_pl.nowhere.Nothing",
            "nope",
        ]
    ),
    st.dictionaries(NAMES, SCALARS, max_size=2),
)
VALUES = st.one_of(
    SCALARS,
    st.lists(SCALARS, max_size=3),
    st.dictionaries(NAMES, SCALARS, max_size=3),
    CLASSES,
    st.sampled_from(COMMANDS),
    st.sampled_from(COMMANDS).map(yaml.safe_dump),
    st.sampled_from([spec["class_path"] for spec in COMMANDS]),
    st.integers(1, 40).map(lambda depth: yaml.safe_load("[" * depth + "]" * depth)),
)


def places(node: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of all values in mappings and lists."""
    found, todo = [], [(node, path)]
    while todo:
        inner, path = todo.pop()
        items = inner.items() if isinstance(inner, dict) else enumerate(inner) if isinstance(inner, list) else ()
        for key, value in items:
            found.append((*path, key))
            todo.append((value, (*path, key)))
    return found


@st.composite
def mutated(draw: Any, wholes: Sequence[Any], values: st.SearchStrategy[Any], most: int = 3) -> Any:
    """One of some configurations or rows with one to ``most`` values changed, dropped, added or renamed."""
    whole = draw(st.sampled_from(wholes))
    known, config = places(whole), copy.deepcopy(whole)
    for _ in range(draw(st.integers(1, most))):
        *path, last = draw(st.sampled_from(known))
        kind, value, name = draw(st.sampled_from(["set", "drop", "add", "rename"])), draw(values), draw(NAMES)
        try:
            node = config
            for key in path:
                node = node[key]
            if kind == "set":
                node[last] = value
            elif kind == "drop":
                del node[last]
            elif kind == "add" and isinstance(node[last], dict):
                node[last][name] = value
            elif kind == "rename" and isinstance(node, dict):
                node[name] = node.pop(last)
        except (KeyError, IndexError, TypeError):
            pass  # an earlier change has taken the place away
    return config


@dataclass(frozen=True)
class Damage:
    """A change of a file's bytes.

    Attributes:
        kind: what is done.
        start: where, as a share of the file.
        length: number of bytes.
        value: a byte, or number of a bit.

    """

    kind: str
    start: float
    length: int
    value: int

    def __call__(self, data: bytes) -> bytes:
        """The changed bytes."""
        at = min(int(self.start * len(data)), max(0, len(data) - 1))
        end = min(at + self.length, len(data))
        if not data or self.kind == "cut":
            return data[:at]
        if self.kind == "flip":
            return data[:at] + bytes([data[at] ^ (1 << self.value % 8)]) + data[at + 1 :]
        filled = {"zero": bytes(end - at), "fill": bytes([self.value]) * (end - at), "drop": b""}
        if self.kind in filled:
            return data[:at] + filled[self.kind] + data[end:]
        if self.kind == "repeat":
            return data[:end] + data[at:]
        return data[at:] + data[:at]  # turned round


#: near the beginning, where headers are, or anywhere
_STARTS = st.one_of(st.floats(0, 1), st.floats(0, 0.02), st.just(0.0))
DAMAGE = st.builds(
    Damage,
    st.sampled_from(["flip", "cut", "zero", "fill", "drop", "repeat", "turn"]),
    _STARTS,
    st.sampled_from([1, 2, 4, 8, 64, 4096]),
    st.integers(0, 255),
)
DAMAGES = st.lists(DAMAGE, min_size=1, max_size=3)


def damaged(data: bytes, damages: Sequence[Damage]) -> bytes:
    """The bytes after all changes."""
    for damage in damages:
        data = damage(data)
    return data


_TENS = [f"{c}: &{c} [{','.join([f'*{p}'] * 10)}]" for p, c in zip("abcdefg", "bcdefgh", strict=True)]
#: lines that no configuration may have
BAD_LINES = [
    "\n".join(["a: &a [x, x, x, x, x, x, x, x, x, x]", *_TENS]),
    "a: &a [*a]",
    "a: &a {b: *a}",
    "trainer: {max_steps: 1}\ntrainer: {max_steps: 2}",
    "a: !!python/object/apply:os.system ['touch executed']",
    "a: !!python/object/new:subprocess.Popen [['touch', 'executed']]",
    "a: !!python/name:os.system",
    "!!python/object/apply:os.system ['touch executed']",
    "a: " + "[" * 3000,
    "a: " + "{b: " * 900 + "1" + "}" * 900,
    "a: " + HUGE_NUMBER,
    "? [a, b]\n: 1",
    "a: *nowhere",
    "<<: [1]",
    "a:\tb",
    "%YAML 9.9\n---\na: 1",
    "a: 1\n---\nb: 2",
    "a: 2001-99-99",
    "a: =",
    "1: 2",
    "null: 3",
    "a: ${oc.env:HOME}",
    "a: ${a}",
    "a: ${oc.create:${a}}",
]


@st.composite
def yaml_bytes(draw: Any, wholes: Sequence[Any]) -> bytes:
    """A configuration's text with a bad line or damaged bytes, or in another encoding."""
    text = yaml.safe_dump(draw(st.sampled_from(wholes)), sort_keys=False)
    kind = draw(st.sampled_from(["line", "bytes", "encoding", "line", "top"]))
    if kind == "line":
        lines = text.splitlines()
        lines.insert(draw(st.integers(0, len(lines))), draw(st.sampled_from(BAD_LINES)))
        return "\n".join(lines).encode()
    if kind == "top":
        return f"{text}\n{draw(st.sampled_from(BAD_LINES))}\n".encode()
    if kind == "encoding":
        return f"# \u00e9\n{text}".encode(draw(st.sampled_from(["utf-16", "latin-1", "utf-32", "utf-8-sig", "cp037"])))
    return damaged(text.encode(), draw(DAMAGES))


ROW_TEXTS = st.sampled_from(
    [
        "human",
        "gpt",
        "<image>",
        "<image><video>",
        "../x.png",
        "../../etc/passwd",
        "/etc/passwd",
        "file:///etc/passwd",
        "http://127.0.0.1:1/a.png",
        "data:image/png;base64,AAAA",
        "data:image/png;base64,!",
        "x" * 300,
        "x" * 5000,
        "a\0.png",
        "a.npy",
        "link.png",
        "loop.png",
        "folder.png",
        "\ud800",
        "[IMG0][IMG1]",
        "<|im_end|>",
        "a\u2028b",
        "\ufeff",
    ]
)
#: stand for lists of so many levels, which :func:`json_text` writes
_DEEP = st.sampled_from([100, 300, 700, 900, 940, 960, 980, 1000, 3000]).map(lambda depth: f"@{depth}@")
ROW_VALUES = st.one_of(VALUES, ROW_TEXTS, st.lists(ROW_TEXTS, max_size=3), _DEEP, st.just("@digits@"))


def json_text(value: Any) -> str:
    """JSON of a row, with the lists and numbers that ``json`` cannot write."""
    text = json.dumps(value).replace('"@digits@"', HUGE_NUMBER)
    return re.sub(r'"@(\d+)@"', lambda match: "[" * int(match[1]) + "]" * int(match[1]), text)
