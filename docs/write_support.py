"""Run the tests in ``tests/support`` and write ``docs/support.md``: what decoders, encoders and LLMs work.

Run: ``python docs/write_support.py``. Each passed test is a cell; see ``tests/support/conftest.py``. The cells are kept
in ``docs/results/support.json``. ``--check`` only compares the page with them.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PAGE, CELLS = ROOT / "docs/support.md", ROOT / "docs/results/support.json"
LIBRARIES = ("torch", "transformers", "diffusers", "peft")
# title of a table, and its text: what a cell means
TABLES = {
    "decoders": (
        "Diffusion pipelines",
        "Each pipeline is a tiny random instance, saved to a folder and read from there. *Equal to the prompt* means "
        "that media from packed caption embeddings are bit-equal to those of `pipeline(prompt)`.",
    ),
    "kinds": (
        "Kinds of decoders",
        "Decoder classes in a tiny model. Those that take words have nothing to align in stage 2; those with a gallery "
        "say whether a medium was retrieved or generated.",
    ),
    "losses": (
        "Denoising losses",
        "The loss of a tiny denoiser: its target and noise levels are those that the model was trained with, and its "
        "gradient reaches the output projection.",
    ),
    "voices": (
        "Voices",
        "Decoders that speak words. VITS and SpeechT5 are tiny random instances, saved to a folder and read from "
        "there; Piper's voice is that of a wheel. *Equal to the class* means the same samples as the library's own "
        "call.",
    ),
    "encoders": ("Encoders", "Each encoder is a tiny random instance, saved to a folder and read from there."),
    "llms": ("LLMs", "Each LLM is a tiny random instance, saved to a folder and read from there."),
    "benchmarks": (
        "Benchmarks",
        "Made-up rows in the layout of the published files. *Best and worst score* are those of right and of empty "
        "replies.",
    ),
}
_HEAD = """# What is supported

This page is written by `python docs/write_support.py`, which runs the tests in `tests/support`. A tick is a test that
passed with {versions}. A dash means that there is no such test.
"""


def run_tests(extra: list[str]) -> list[list[str]]:
    """The cells ``[table, row, column]`` of all passed tests.

    Raises:
        SystemExit: a test failed.

    """
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "cells.json"
        command = [sys.executable, "-m", "pytest", "tests/support", "-m", "", *extra]
        environment = {**os.environ, "NEXTGPT_SUPPORT_CELLS": str(target)}
        code = subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode
        if code:
            raise SystemExit(f"the tests failed (exit {code}); the page is unchanged")
        cells: list[list[str]] = json.loads(target.read_text(encoding="utf-8"))
        return cells


def page(record: dict[str, Any]) -> str:
    """The page of recorded cells."""
    versions = ", ".join(f"{name} {number}" for name, number in record["versions"].items())
    parts = [_HEAD.format(versions=versions)]
    for table, (title, text) in TABLES.items():
        cells = {(row, column) for name, row, column in record["cells"] if name == table}
        if cells:
            parts.append(f"## {title}\n\n{text}\n\n{_table(cells)}")
    return "\n".join(parts)


def _table(cells: set[tuple[str, str]]) -> str:
    rows, columns = (sorted({cell[axis] for cell in cells}) for axis in (0, 1))
    lines = [f"| | {' | '.join(columns)} |", f"| --- |{' :---: |' * len(columns)}"]
    for row in rows:
        ticks = ["✓" if (row, column) in cells else "-" for column in columns]
        lines.append(f"| `{row}` | {' | '.join(ticks)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run the tests and write the page, or check it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare the page with the kept cells; run no tests")
    arguments, extra = parser.parse_known_args()
    if not arguments.check:
        cells = run_tests(extra)
        record = {"versions": {name: version(name) for name in LIBRARIES}, "cells": cells}
        CELLS.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        PAGE.write_text(page(record), encoding="utf-8")
    elif page(json.loads(CELLS.read_text(encoding="utf-8"))) != PAGE.read_text(encoding="utf-8"):
        raise SystemExit(f"{PAGE.relative_to(ROOT)} is not what the kept cells give: run python docs/write_support.py")


if __name__ == "__main__":
    main()
