"""Run folders as data: configuration, logged metrics, sample media."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from nextgpt_pl.config.flat import flatten
from nextgpt_pl.config.yaml_files import read_yaml
from nextgpt_pl.errors import UserError

_CONFIG, _METRICS = "config.yaml", "metrics.csv"
_SPEED = "speed/"


@dataclass(frozen=True)
class Run:
    """The folder of a run.

    Attributes:
        folder: ``outputs/<experiment>/<run>``.

    """

    folder: Path

    @property
    def name(self) -> str:
        """Experiment and run."""
        return f"{self.folder.parent.name}/{self.folder.name}"

    @cached_property
    def config(self) -> dict[str, Any]:
        """The resolved configuration under flat dotted keys."""
        values = read_yaml(self.folder / _CONFIG)
        if not isinstance(values, dict):
            raise UserError(f"{self.folder / _CONFIG} holds no configuration")
        return flatten(values)

    @cached_property
    def metrics(self) -> pd.DataFrame:
        """Logged metrics: a row per log entry, ``step`` and a column per metric; missing values are NaN."""
        file = self.folder / _METRICS
        if not file.is_file() or not file.stat().st_size:
            return pd.DataFrame({"step": []})
        try:
            table = pd.read_csv(file)
            texts = [name for name in table if not pd.api.types.is_numeric_dtype(table[name])]
        except (OSError, ValueError) as error:
            raise UserError(f"{file}: not a readable table ({str(error).strip().splitlines()[0]})") from error
        if "step" not in table or texts:
            raise UserError(
                f"{file}: a column step and numbers are expected, got {', '.join(texts) or 'no step'!r:.80}"
            )
        return table

    @property
    def damage(self) -> str | None:
        """What is wrong with its configuration or metrics; ``None``: nothing."""
        try:
            _ = self.config, self.metrics
        except UserError as error:
            return str(error)
        return None

    @cached_property
    def final(self) -> dict[str, float]:
        """The last value of each metric."""
        columns = self.metrics.drop(columns=["step", "epoch"], errors="ignore")
        last = {name: columns[name].dropna() for name in columns}
        return {name: float(values.iloc[-1]) for name, values in last.items() if len(values)}

    @cached_property
    def speed(self) -> dict[str, float]:
        """The median of each speed of training, such as ``samples_per_second``."""
        columns = {name: self.metrics[name].dropna() for name in self.metrics if name.startswith(_SPEED)}
        return {n.removeprefix(_SPEED): float(values.median()) for n, values in columns.items() if len(values)}

    def curve(self, metric: str) -> pd.Series:
        """A metric by step; empty if it was never logged."""
        if metric not in self.metrics:
            return pd.Series(dtype=float)
        return self.metrics.dropna(subset=[metric]).groupby("step")[metric].last()

    @property
    def finished(self) -> bool:
        """Whether training is finished, which writes an adapter."""
        return (self.folder / "adapter" / "manifest.json").is_file()

    @property
    def stage(self) -> str:
        """The stage's class, such as ``DecoderAlignment``."""
        return str(self.config.get("model.class_path", "")).rsplit(".", 1)[-1]

    def samples(self, pattern: str) -> list[Path]:
        """The files of a pattern in the last sample folder that has any; links out of the run's folder are left out."""
        files = [file for file in self.folder.glob(f"samples/*/{pattern}") if self.owns(file)]
        last = max((file.parent for file in files), default=None)
        return sorted(file for file in files if file.parent == last)

    def owns(self, file: Path) -> bool:
        """Whether a file is there, and in the run's folder also if links are followed."""
        return file.is_file() and file.resolve().is_relative_to(self.folder.resolve())


def find_runs(places: Iterable[Path | str]) -> list[Run]:
    """The runs in these folders, at any depth, each once, in the order of their paths.

    Damaged runs are left out with a warning that names the file and counts them.

    Raises:
        UserError: a folder does not exist, or has no run, or none that can be read.

    """
    runs_by_folder: dict[Path, Run] = {}
    for place in map(Path, places):
        if not place.is_dir():
            raise UserError(f"{place}: no such folder; give run folders or folders of them, such as outputs/dec_align")
        folders = [file.parent for file in _configs(place)]
        if not folders:
            raise UserError(f"{place}: no run in it ({_CONFIG} beside {_METRICS} is expected)")
        runs_by_folder.update({folder.resolve(): Run(folder) for folder in folders})
    damaged = {run: text for run in runs_by_folder.values() if (text := run.damage) is not None}
    readable = [run for run in runs_by_folder.values() if run not in damaged]
    if damaged and not readable:
        raise UserError(next(iter(damaged.values())))
    for number, text in enumerate(damaged.values(), start=1):
        warnings.warn(f"damaged run {number} of {len(damaged)} is left out: {text}", stacklevel=2)
    return readable


def _configs(place: Path) -> Sequence[Path]:
    # W&B keeps a config.yaml of its own in the run's folder
    configs = [f for f in sorted(place.rglob(_CONFIG)) if "wandb" not in f.relative_to(place).parts]
    return [f for f in configs if (f.parent / _METRICS).is_file()]


def final_table(runs: Sequence[Run]) -> pd.DataFrame:
    """A row per run: its name, its stage, and the last value of each metric; missing values are NaN."""
    rows = [{"run": run.name, "stage": run.stage, **run.final} for run in runs]
    return pd.DataFrame(rows).set_index("run")


def latest(runs: Sequence[Run]) -> dict[str, Run]:
    """The last started finished run of each stage, in the order of their start."""
    started = sorted((run for run in runs if run.finished), key=lambda run: (run.folder / _CONFIG).stat().st_mtime)
    newest = {run.stage: run for run in started}
    return dict(sorted(newest.items(), key=lambda entry: started.index(entry[1])))
