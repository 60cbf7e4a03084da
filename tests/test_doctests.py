"""The examples in docstrings of the package."""

import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILES = sorted(p for p in (ROOT / "nextgpt_pl").rglob("*.py") if ">>> " in p.read_text(encoding="utf-8"))


@pytest.mark.parametrize("file", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_examples_give_what_they_say(file):
    module = importlib.import_module(".".join(file.relative_to(ROOT).with_suffix("").parts))
    assert any(test.examples for test in doctest.DocTestFinder().find(module)), "its example is in no docstring"
    assert doctest.testmod(module).failed == 0


def test_there_are_examples():
    assert len(FILES) >= 10
