"""Write ``docs/results.md``, ``docs/performance.md`` and the README's table of results.

They are written from ``docs/results/*.yaml``, and from ``docs/results/benchmarks/*.json`` of ``benchmarks/figures.py``.

Run: ``python docs/write_results.py``. Each YAML is a section of the page: a title, a text and its figures, one row
each. A figure has ``what`` was measured, its ``value``, the ``command`` that prints it, the ``machine`` and the
``commit`` that recorded it. ``readme`` is the name under which a figure also stands in the README.
"""

from __future__ import annotations

import argparse
import ast
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
PAGE = Path("docs/results.md")
PERFORMANCE = Path("docs/performance.md")
README = Path("README.md")
KEYS = ("what", "value", "command", "machine", "commit")
OPTIONAL = ("readme",)
BEGIN, END = "<!-- results: written by docs/write_results.py -->", "<!-- end of results -->"
_HEAD = """# Results

This page is written by `python docs/write_results.py` from `docs/results/*.yaml`; edit those files, not this one.

Each figure names the command that prints it, the machine that it was measured on, and the commit that recorded it.
*AVX-512* in the column of machines means that the processor has these instructions; *shared* means that another process
was running on the same cores. Intervals in brackets are 95% intervals. Errors of decoder alignment are on held-out
combinations of attributes, relative to predicting the mean embedding.
"""

_PERFORMANCE = """# Performance

This page is written by `python docs/write_results.py` from the figures that the benchmarks save with
`--json docs/results/benchmarks/NAME.json`.

Ratios compare variants that took turns in one run. Seconds, and figures per second, hold for the named machine only.
Numbers in brackets are the lowest and the highest value of the repeats.
"""


def sections(folder: Path) -> list[dict[str, Any]]:
    """The sections of ``folder``, in the order of their file names.

    Raises:
        ValueError: a row lacks a key, or has one that is not known; names the file and the row.

    """
    read = []
    for file in sorted(folder.glob("*.yaml")):
        section = yaml.safe_load(file.read_text(encoding="utf-8"))
        for number, row in enumerate(section["figures"]):
            missing = [key for key in KEYS if not row.get(key)]
            unknown = set(row) - set(KEYS) - set(OPTIONAL)
            if missing or unknown:
                raise ValueError(f"{file.name}, row {number}: missing {missing}, unknown {sorted(unknown)}")
        read.append(section)
    return read


def page(read: Sequence[dict[str, Any]]) -> str:
    """The results page in Markdown."""
    parts = [_HEAD]
    for section in read:
        rows = [
            [row["what"], row["value"], f"`{row['command']}`", row["machine"], f"`{row['commit']}`"]
            for row in section["figures"]
        ]
        text = [f"## {section['title']}", section.get("text", "").strip(), _table(KEYS, rows)]
        text.append(section.get("after", "").strip())
        parts.append("\n\n".join(part for part in text if part) + "\n")
    return "\n".join(parts)


def summary(read: Sequence[dict[str, Any]]) -> str:
    """The README's table: the figures that have a name there."""
    rows = [[row["readme"], row["value"]] for section in read for row in section["figures"] if "readme" in row]
    return _table(("what", "result"), rows)


def with_summary(readme: str, table: str) -> str:
    """The README with the table between its two marks.

    Raises:
        ValueError: the marks are not there.

    """
    found = re.search(f"{re.escape(BEGIN)}\n.*?{re.escape(END)}", readme, re.DOTALL)
    if found is None:
        raise ValueError(f"README.md: no lines {BEGIN!r} and {END!r}")
    return readme[: found.start()] + f"{BEGIN}\n{table}\n{END}" + readme[found.end() :]


def written(root: Path) -> dict[Path, str]:
    """What the files should hold, by their path below ``root``."""
    read = sections(root / "docs" / "results")
    readme = (root / README).read_text(encoding="utf-8")
    return {PAGE: page(read), PERFORMANCE: performance(root), README: with_summary(readme, summary(read))}


def performance(root: Path) -> str:
    """The page of performance in Markdown, with one section for each JSON file that a benchmark has saved."""
    files = sorted((root / "docs" / "results" / "benchmarks").glob("*.json"))
    return "\n".join([_PERFORMANCE, *(_benchmark(root, file) for file in files)])


def _benchmark(root: Path, file: Path) -> str:
    record = json.loads(file.read_text(encoding="utf-8"))
    told = record["circumstances"]
    script = root / told["command"].split()[1]
    docstring = ast.get_docstring(ast.parse(script.read_text(encoding="utf-8"))) or ""
    about = docstring.split("\n\n")[0].replace("\n", " ").split(": python ")[0]
    made = f"torch {told['torch']}, commit `{told['commit']}`, {told['date']}"
    lines = [f"## {file.stem.replace('_', ' ').capitalize()}", ""]
    command = " ".join([*(f"{name}={value}" for name, value in told.get("variables", {}).items()), told["command"]])
    lines += [f"{about}: `{command}`, {told['cores']} cores ({told['instructions']}), {made}.", ""]
    return "\n".join([*lines, _table(("what", "value"), list(_rows(record["figures"]))), ""])


def _rows(figures: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    """Names and values of nested figures."""
    for name, value in figures.items():
        whole = f"{before}{name}"
        if isinstance(value, Mapping):
            yield from _rows(value, f"{whole}: ")
        elif isinstance(value, list) and len(value) == 3:
            yield whole, f"{_text(value[0])} [{_text(value[1])}, {_text(value[2])}]"
        else:
            yield whole, ", ".join(map(_text, value)) if isinstance(value, list) else _text(value)


def _text(value: Any) -> str:
    """A number with three digits."""
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Write the files; with ``--check`` only tell whether they are up to date."""
    parser = argparse.ArgumentParser(description="Write the pages of results and performance, and the README's table.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 if a file is not up to date")
    options = parser.parse_args(argv)
    stale = {path: text for path, text in written(ROOT).items() if _now(ROOT / path) != text}
    for path, text in stale.items():
        print(f"{path}: {'not up to date' if options.check else 'written'}")
        if not options.check:
            (ROOT / path).write_text(text, encoding="utf-8")
    return 1 if stale and options.check else 0


def _now(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""


if __name__ == "__main__":
    sys.exit(main())
