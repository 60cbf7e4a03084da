"""Empty data files in the places that an experiment's YAML names."""

import re
from pathlib import Path


def write_named_files(experiment: Path, root: Path) -> None:
    """Write an empty list into each JSON file that the YAML names, so that its sources can be made."""
    for name in re.findall(r"[-\[,] ?([\w+./-]+\.json)\b", experiment.read_text()):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("[]")
