import json
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
sys.path.insert(0, str(ROOT / "docs"))
import write_support  # noqa: E402 (not part of the package)


def test_the_page_is_what_the_kept_cells_give():
    record = json.loads(write_support.CELLS.read_text(encoding="utf-8"))
    assert write_support.page(record) == write_support.PAGE.read_text(encoding="utf-8")
    # each table of the script has cells
    assert {table for table, _, _ in record["cells"]} == set(write_support.TABLES)


def test_a_table_has_a_tick_per_cell():
    cells = [["llms", "a", "x"], ["llms", "b", "y"]]
    page = write_support.page({"versions": {"torch": "2.0"}, "cells": cells})
    assert "| | x | y |" in page
    assert "| `a` | ✓ | - |" in page
    assert "| `b` | - | ✓ |" in page
    assert "torch 2.0" in page
