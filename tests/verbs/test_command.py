import re
from collections.abc import Sequence
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


VERBS = ("report", "tour", "push", "chat", "generate", "sweep", "ablate", "import", "export", "score", "evaluate")


@pytest.mark.parametrize("name", VERBS)
def test_help_describes_every_argument(name, capsys):
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"usage: nextgpt_pl {name} ")
    # an argument without a text shows its type only
    assert not re.search(r"^  \S+( [A-Z_]+)?\s+\((required|type)", shown, re.MULTILINE)


@pytest.mark.parametrize("name", VERBS)
def test_an_unknown_option_ends_with_one_message(name, capsys):
    assert main([name, "--nonsense", "3"]) == 2
    assert capsys.readouterr().err.startswith("error: ")
