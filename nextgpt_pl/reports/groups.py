"""Groups of runs that differ in the seed only: their settings, mean and standard deviation."""

from __future__ import annotations

import fnmatch
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from nextgpt_pl.errors import UserError, nearest
from nextgpt_pl.reports.keys import short_names
from nextgpt_pl.reports.runs import Run

#: keys that do not distinguish configurations: seeds, and paths of files
_SEEDS = ("seed_everything", "data.init_args.seed")
_PLACES = ("run.*", "ckpt_path", "weights_only", "trainer.default_root_dir", "trainer.logger*", "trainer.enable_*")
#: default metrics, in this order; loss values of different losses are not comparable
MAIN_METRICS = (
    "val/relative_mse_*",
    "val/signal_accuracy",
    "val/token_accuracy",
    "val/CIDEr-D",
    "val/BLEU-4",
    "val/spelling",
)
_LONGEST_LABEL = 60
_BASE = "base"


@dataclass(frozen=True)
class Group:
    """Runs of one configuration.

    Attributes:
        settings: short key to value, of the keys that differ between groups.
        label: settings that most groups do not have, in one line; a number if that is too long.
        runs: one per seed.

    """

    settings: Mapping[str, Any]
    label: str
    runs: tuple[Run, ...]

    def values(self, metric: str) -> pd.Series:
        """The final value of each run that logged the metric."""
        return pd.Series([run.final[metric] for run in self.runs if metric in run.final], dtype=float)

    def curves(self, metric: str) -> pd.DataFrame:
        """A metric by step (rows) in each run (columns)."""
        curves = [run.curve(metric) for run in self.runs]
        return pd.concat([c for c in curves if len(c)], axis=1) if any(map(len, curves)) else pd.DataFrame()


def group_runs(runs: Sequence[Run]) -> list[Group]:
    """Group runs by configuration without seeds and paths; the base group first, then sorted by settings."""
    configs = _folded([{k: v for k, v in run.config.items() if not _is_silent(k)} for run in runs])
    differing = _differing(configs)
    names = short_names(differing)
    by_identity: dict[tuple[str, ...], tuple[dict[str, Any], list[Run]]] = {}
    for run, config in zip(runs, configs, strict=True):
        settings = {names[key]: _shown(key, config.get(key)) for key in differing}
        # omitted settings also distinguish runs
        identity = tuple(f"{key}={value!r}" for key, value in sorted(config.items()))
        by_identity.setdefault(identity, (settings, []))[1].append(run)
    usual = _usual([settings for settings, _ in by_identity.values()])
    # first groups without unusual settings, then sorted by value
    ordered = sorted(
        by_identity.values(),
        key=lambda entry: (_label(entry[0], usual) != _BASE, [_order(value) for value in entry[0].values()]),
    )
    labels = [_label(settings, usual) for settings, _ in ordered]
    if max(map(len, labels), default=0) > _LONGEST_LABEL:
        labels = [f"configuration {number}" for number in range(1, len(ordered) + 1)]
    return [Group(s, label, tuple(members)) for label, (s, members) in zip(labels, ordered, strict=True)]


def seed_of(run: Run) -> Any:
    """The run's seed."""
    return run.config.get(_SEEDS[0])


def _is_silent(key: str) -> bool:
    return key in _SEEDS or any(fnmatch.fnmatchcase(key, pattern) for pattern in _PLACES)


def _folded(configs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """If one configuration has ``a: null`` and another ``a.b: 2``, the latter becomes ``a: b=2``."""
    scalars = {key for config in configs for key in config}
    folded = []
    for config in configs:
        result: dict[str, Any] = {}
        for key, value in config.items():
            words = key.split(".")
            above = (".".join(words[:n]) for n in range(1, len(words)))
            parent = next((name for name in above if name in scalars), None)
            if parent is None:
                result[key] = value
            else:
                inner = f"{key.removeprefix(parent + '.')}={value}"
                result[parent] = f"{result[parent]} {inner}" if parent in result else inner
        folded.append(result)
    return folded


def _differing(configs: Sequence[dict[str, Any]]) -> list[str]:
    keys = list(dict.fromkeys(key for config in configs for key in config))
    values = {key: {repr(config[key]) for config in configs if key in config} for key in keys}
    several = [key for key in keys if len(values[key]) > 1]
    classes = [key.removesuffix("class_path") for key in several if key.endswith("class_path")]
    # keys of other versions or of missing parts without value do not distinguish configurations
    missing = [
        k for k in keys if any(k not in config for config in configs) and k not in several and values[k] != {"None"}
    ]
    # an argument that only one class has, with one value, is implied by the class
    return [k for k in keys if k in several or (k in missing and not any(k.startswith(c) for c in classes))]


def _shown(key: str, value: Any) -> Any:
    return str(value).rsplit(".", 1)[-1] if key.endswith("class_path") and value is not None else value


def _usual(settings: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The values that more than half of the groups have."""
    usual = {}
    for key in settings[0] if settings else ():
        value, count = Counter(repr(s[key]) for s in settings).most_common(1)[0]
        if count > len(settings) / 2:
            usual[key] = value
    return usual


def _label(settings: Mapping[str, Any], usual: Mapping[str, str]) -> str:
    unusual = {key: value for key, value in settings.items() if usual.get(key) != repr(value)}
    # null values are implied by other settings
    texts = [f"{key}={value}" for key, value in unusual.items() if value is not None or len(unusual) == 1]
    return ", ".join(texts) or (_BASE if settings else "all runs")


def _order(value: Any) -> tuple[bool, float, str]:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return not number, float(value) if number else 0.0, str(value)


def choose_metrics(groups: Sequence[Group], wanted: Sequence[str] = ()) -> list[str]:
    """The metrics that match the patterns, or the main metrics.

    Raises:
        UserError: a pattern matches no logged metric.

    """
    logged = list(dict.fromkeys(name for group in groups for run in group.runs for name in sorted(run.final)))
    for pattern in wanted:
        if not fnmatch.filter(logged, pattern):
            raise UserError(f"--metrics: no run logged {pattern!r}{nearest(pattern, logged)}")
    matching = [name for pattern in wanted or MAIN_METRICS for name in fnmatch.filter(logged, pattern)]
    return list(dict.fromkeys(matching)) or [name for name in logged if name.startswith("val/")]


def summary(groups: Sequence[Group], metrics: Sequence[str]) -> pd.DataFrame:
    """A row per group: settings, number of runs, and of each metric mean and standard deviation (NaN of one run)."""
    rows = []
    for group in groups:
        row: dict[str, Any] = {"group": group.label, **group.settings, "runs": len(group.runs)}
        for metric in metrics:
            values = group.values(metric)
            row[f"{metric} mean"], row[f"{metric} std"] = values.mean(), values.std(ddof=1)
        rows.append(row)
    return pd.DataFrame(rows)


def spread(values: pd.Series) -> str:
    """Mean and standard deviation as text; for one value the mean only."""
    if not len(values):
        return "-"
    mean, std = values.mean(), values.std(ddof=1)
    # equal values have a deviation of rounding errors
    std = 0.0 if std < 1e-9 * abs(mean) else std
    return f"{mean:.4g}" + (f" ± {std:.2g}" if len(values) > 1 else "")
