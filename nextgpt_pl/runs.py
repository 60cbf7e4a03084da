"""Run folders: ``outputs/<experiment>/<run>/`` holds everything that a run leaves behind."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any


@dataclass
class RunConfig:
    """Where a run leaves its files.

    Args:
        root: folder of all experiments.
        experiment: name of the experiment; by default the YAML's path below ``experiments/``.
        name: name of the run; by default the time at which it starts.

    """

    root: Path = Path("outputs")
    experiment: str | None = None
    name: str | None = None


def experiment_name(config_files: list[Path]) -> str:
    """``experiments/smol/dec_align.yaml`` is ``smol/dec_align``; a YAML elsewhere is its stem."""
    if not config_files:
        return "unnamed"
    parts = config_files[-1].resolve().with_suffix("").parts
    if "experiments" in parts[:-1]:
        last = len(parts) - 1 - parts[::-1].index("experiments")
        return "/".join(parts[last + 1 :])
    return parts[-1]


def create_run_folder(run: RunConfig, config_files: list[Path]) -> Path:
    """Make a new folder; never one that holds another run."""
    parent = run.root / (run.experiment or experiment_name(config_files))
    parent.mkdir(parents=True, exist_ok=True)
    name = run.name or datetime.now().strftime("%Y%m%d-%H%M%S")
    for attempt in range(1000):
        folder = parent / (name if attempt == 0 else f"{name}-{attempt + 1}")
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        return folder.resolve()
    raise RuntimeError(f"{parent / name}: a thousand runs of this name exist")


def loggers(folder: Path, project: str = "nextgpt_pl") -> list[Any]:
    """A CSV log (``metrics.csv``) and W&B, offline unless ``WANDB_MODE`` says otherwise or an agent began the run."""
    from lightning.pytorch.loggers import CSVLogger, WandbLogger

    found: list[Any] = [CSVLogger(folder.parent, name=folder.name, version="")]
    # an agent's run reports to the server that chose its parameters
    mode = os.environ.setdefault("WANDB_MODE", "online" if os.environ.get("WANDB_SWEEP_ID") else "offline")
    if mode != "online":
        os.environ.setdefault("WANDB_SILENT", "true")
    if mode != "disabled":
        name = f"{folder.parent.name}/{folder.name}"
        found.append(WandbLogger(name=name, project=project, save_dir=folder))
    return found


def describe(folder: Path) -> str:
    """What a run folder holds, for the last lines of a run."""
    entries = sorted(p.name + ("/" if p.is_dir() else "") for p in folder.iterdir())
    return f"{folder}: {', '.join(entries)}"
