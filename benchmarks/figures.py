"""Figures of the benchmarks as JSON files with their circumstances, and the page that is written from them.

python benchmarks/figures.py writes docs/performance.md from the files in docs/figures.
"""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from datetime import date
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
FOLDER, PAGE = ROOT / "docs" / "figures", ROOT / "docs" / "performance.md"
_TITLE = """# Performance

Each table is written by `python benchmarks/figures.py` from the JSON that a benchmark has saved with `--json`. Ratios
compare variants that took turns in one run; seconds hold for the named machine only. A number in brackets is the range
of the repeats.
"""


def circumstances() -> dict[str, Any]:
    """The command, machine, versions and commit."""
    import torch

    command = ["git", "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    arguments = [a for i, a in enumerate(sys.argv[1:], 1) if "--json" not in (a, sys.argv[i - 1])]
    return {
        "command": " ".join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *arguments]),
        "cores": os.cpu_count(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__,
        "commit": commit.stdout.strip() or "unknown",
        "date": date.today().isoformat(),
    }


def save(path: Path | None, figures: Mapping[str, Any]) -> None:
    """Write figures to a JSON file, if one is asked for.

    Args:
        path: the file.
        figures: nested; a list of three numbers is a median with the lowest and the highest value.

    """
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        record = {"circumstances": circumstances(), "figures": figures}
        path.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def page(folder: Path = FOLDER) -> str:
    """The page in Markdown, with one section for each file."""
    return "\n".join([_TITLE, *(_section(file) for file in sorted(folder.glob("*.json")))])


def _section(file: Path) -> str:
    record = json.loads(file.read_text(encoding="utf-8"))
    told = record["circumstances"]
    script = ROOT / told["command"].split()[1]
    docstring = ast.get_docstring(ast.parse(script.read_text(encoding="utf-8"))) or ""
    about = docstring.split("\n\n")[0].replace("\n", " ").split(": python ")[0]
    made = f"torch {told['torch']}, commit `{told['commit']}`, {told['date']}"
    lines = [f"## {file.stem.replace('_', ' ').capitalize()}", ""]
    lines += [f"{about}: `{told['command']}`, {told['cores']} cores ({told['instructions']}), {made}.", ""]
    lines += ["| | |", "| --- | --- |", *(f"| {name} | {value} |" for name, value in _rows(record["figures"])), ""]
    return "\n".join(lines)


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
    return f"{value:,}" if isinstance(value, int) else str(value).replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
