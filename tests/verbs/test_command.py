import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from nextgpt_pl.__main__ import main
from nextgpt_pl.errors import UserError
from nextgpt_pl.verbs.command import call


def verb(
    kind: Literal["a", "b"],
    files: list[Path],
    out: Path,
    count: int | None = None,
    name: str = "x",
    flag: bool = False,
    images: list[Path] | None = None,
    trust: Sequence[str] = (),
    more: Sequence[str] = (),
) -> dict:
    """Do something.

    Args:
        kind: one of two.
        files: to read.
        out: folder to make.
        count: at most.
        name: of it.
        flag: whether.
        images: to show.
        trust: names.

        more: not on the command line.

    """
    return dict(locals())


def _called(*arguments, **given):
    return call(verb, ["verb", *arguments], positional=["kind", "files"], **given)


def test_arguments_have_the_types_of_the_signature():
    assert _called("a", "f", "g", "--out", "o", more=["m"]) == {
        **{"kind": "a", "files": [Path("f"), Path("g")], "out": Path("o"), "count": None, "name": "x"},
        **{"flag": False, "images": None, "trust": (), "more": ["m"]},
    }
    given = _called(
        *("b", "f", "--out=o", "--count", "3", "--name", "[1", "--flag", "--images", "i", "j", "--trust", "my.Class")
    )
    assert (given["count"], given["name"], given["flag"]) == (3, "[1", True)
    assert (given["images"], given["trust"]) == ([Path("i"), Path("j")], ["my.Class"])
    assert _called("a", "f", "--out", "o", "--images")["images"] == []


@dataclass
class Limits:
    """Limits.

    Args:
        most: the highest number.

    """

    most: int = 3


def limited(name: str, limits: Limits) -> tuple[str, int]:
    """Do something within limits.

    Args:
        name: of it.
        limits: its limits.

    """
    return name, limits.most


def test_the_fields_of_a_dataclass_are_options(capsys):
    assert call(limited, ["limited", "--name", "x"]) == ("x", 3)
    assert call(limited, ["limited", "--name", "x", "--most", "5"]) == ("x", 5)
    with pytest.raises(UserError, match="mots: no such key; did you mean 'most'"):
        call(limited, ["limited", "--name", "x", "--mots", "5"])
    with pytest.raises(SystemExit):
        call(limited, ["limited", "--help"])
    assert "the highest number" in capsys.readouterr().out


def test_an_option_that_is_repeated_keeps_all_values():
    given = _called("a", "f", "--out", "o", "--trust", "a.B", "--images", "i", "--trust", "c.D", "e.F", "--images", "j")
    assert given["trust"] == ["a.B", "c.D", "e.F"]
    assert given["images"] == [Path("i"), Path("j")]
    assert _called("a", "f", "--out", "o")["trust"] == ()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["c", "f", "--out", "o"], "kind: one of 'a', 'b' is expected, got 'c'"),
        (["a", "f"], "out"),
        (["a", "f", "--out", "o", "--count", "many"], "count: int or null is expected, got 'many'"),
        (["a", "f", "--out", "o", "--cuont", "3"], "cuont: no such key; did you mean 'count'?"),
        (["a", "f", "--out", "o", "--coun", "3"], "coun: no such key; did you mean 'count'?"),
        (["a", "f", "--out", "o", "--more", "x"], "more: no such key"),
    ],
)
def test_mistakes_name_the_argument(arguments, message):
    with pytest.raises(UserError) as caught:
        _called(*arguments, more=())
    assert message in str(caught.value)


VERBS = (
    "report",
    "tour",
    "push",
    "chat",
    "generate",
    "serve",
    "sweep",
    "ablate",
    "import",
    "export",
    "score",
    "evaluate",
    "test",
    "pocket measure",
)


@pytest.mark.parametrize("name", VERBS)
def test_help_describes_every_argument(name, capsys):
    with pytest.raises(SystemExit) as ended:
        main([*name.split(), "--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"usage: nextgpt_pl {name} ")
    # an argument without a text shows its type only
    assert not re.search(r"^  \S+( [A-Z_]+)?\s+\((required|type)", shown, re.MULTILINE)


@pytest.mark.parametrize("name", VERBS)
def test_an_unknown_option_ends_with_one_message(name, capsys):
    assert main([*name.split(), "--nonsense", "3"]) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: ")
    assert message.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "error: pocket: a command is expected; known: measure, pack, pretrain, sheet\n"),
        (["pretrian"], "error: pocket: no command 'pretrian'; did you mean 'pretrain'?\n"),
        (["measure", "--cuont", "3"], "error: cuont: no such key; did you mean 'count'?\n"),
        (["measure", "--count", "x"], "error: count: int is expected, got 'x'\n"),
    ],
)
def test_mistakes_in_pocket_end_with_one_message(arguments, message, capsys):
    assert main(["pocket", *arguments]) == 2
    assert capsys.readouterr().err == message


def test_the_help_of_pocket_lists_its_commands(capsys):
    assert main(["pocket", "--help"]) == 0
    assert re.findall(r"^  (\w+)", capsys.readouterr().out, re.MULTILINE) == ["pretrain", "measure", "sheet", "pack"]


def test_the_verb_test_names_the_nearest_option(tmp_path, capsys):
    (tmp_path / "tasks.yaml").write_text("tasks: []\n")
    assert main(["test", "-c", str(tmp_path / "tasks.yaml"), "--cuont", "3"]) == 2
    assert capsys.readouterr().err == "error: cuont: no such key; did you mean 'count'?\n"


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("Unable to allocate 7.28 TiB for an array"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory: you tried 1"),
    ],
)
def test_too_much_memory_is_one_message(error, monkeypatch, capsys):
    def allocate(_):
        raise error

    monkeypatch.setattr("nextgpt_pl.verbs.summary.main", allocate)
    assert main(["summary"]) == 2
    assert capsys.readouterr().err == f"error: not enough memory ({error}): set smaller widths, batches or lengths\n"


def test_another_error_keeps_its_traceback(monkeypatch):
    def fail(_):
        raise RuntimeError("a mistake of ours")

    monkeypatch.setattr("nextgpt_pl.verbs.summary.main", fail)
    with pytest.raises(RuntimeError, match="a mistake of ours"):
        main(["summary"])
