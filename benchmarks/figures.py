"""Figures of the benchmarks as JSON files with their circumstances; docs/write_results.py writes a page from them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).parent.parent
#: beginnings of the names of environment variables that change the speed
_VARIABLES = ("MALLOC_", "OMP_", "MKL_")


def circumstances() -> dict[str, Any]:
    """The command, variables that change the speed, machine, versions and commit."""
    import torch

    command = ["git", "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, check=False)
    arguments = [a for i, a in enumerate(sys.argv[1:], 1) if "--json" not in (a, sys.argv[i - 1])]
    return {
        "command": " ".join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *arguments]),
        "variables": {name: value for name, value in sorted(os.environ.items()) if name.startswith(_VARIABLES)},
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
