"""Records of a sweep's runs in ``logs/``: a JSON file and the output of each run.

Grids and ablations have records too, so they cannot be in Optuna's storage, which is optional. That storage also keeps
a trial of a killed process as running, and does not start it again with the same parameters.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from nextgpt_pl.utils.atomic import delete_abandoned, write_atomic

State = Literal["started", "finished", "failed"]


class Records:
    """Records by name of the run; read from a folder, and written when they change.

    Args:
        folder: folder of the records; created if it does not exist.

    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        delete_abandoned(folder)
        self.by_name: dict[str, dict[str, Any]] = {}
        self.read()

    def read(self) -> None:
        """Read all records of the folder."""
        for file in sorted(self.folder.rglob("*.json")):
            name = file.relative_to(self.folder).with_suffix("").as_posix()
            self.by_name[name] = json.loads(file.read_text(encoding="utf-8"))

    def get(self, name: str) -> dict[str, Any] | None:
        """A run's record: ``state``, ``parameters``, ``command`` and, once it ended, ``exit_code``, ``seconds``."""
        return self.by_name.get(name)

    def put(
        self, name: str, state: State, *, parameters: Mapping[str, Any], command: Sequence[str], **more: Any
    ) -> None:
        """Write a record, atomically."""
        record = {"state": state, "parameters": dict(parameters), "command": list(command), **more}
        self.by_name[name] = record
        write_atomic(self.folder / f"{name}.json", json.dumps(record, indent=2) + "\n")

    def output(self, name: str) -> Path:
        """The file of a run's output."""
        file = self.folder / f"{name}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        return file

    def last_line(self, name: str) -> str:
        """The last line of a run's output."""
        text = self.output(name).read_text(encoding="utf-8", errors="replace").replace("\r", "\n")
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        return lines[-1] if lines else "no output"

    def state(self, name: str) -> State | None:
        """A run's state; ``None`` if it was never started."""
        record = self.by_name.get(name)
        return None if record is None else record["state"]
