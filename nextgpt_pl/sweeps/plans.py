"""The runs of a sweep, or of a folder of ablations."""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from nextgpt_pl.errors import UserError, no_file
from nextgpt_pl.reports.keys import short_names
from nextgpt_pl.sweeps.runner import Planned, Runner
from nextgpt_pl.sweeps.search import Seen, propose
from nextgpt_pl.sweeps.space import Sweep, grid

BASE = "base.yaml"
_LONGEST = 40  # characters of a value in a name


def group_of(place: Path) -> str:
    """Folder of the runs of a sweep's YAML or of a folder of ablations, below the root.

    ``experiments/sweeps/x.yaml`` is ``sweeps/x``, ``experiments/ablations`` is ``ablations``.
    """
    from nextgpt_pl.training.runs import experiment_name

    return experiment_name([place])


def plan_grid(sweep: Sweep) -> list[Planned]:
    """The runs of a grid, named by what is varied."""
    points = grid(sweep)
    names = short_names(sweep.varied)
    return [_planned(sweep, point, "_".join(f"{names[k]}-{_slug(point[k])}" for k in names)) for point in points]


def search_names(total: int) -> list[str]:
    """Names of the runs of a search."""
    return [f"run-{index:03d}" for index in range(total)]


def plan_search(sweep: Sweep, runner: Runner, total: int) -> Iterator[Planned]:
    """The runs of a random or Bayesian search; each is proposed on demand, from the results of finished runs."""
    for index, name in enumerate(search_names(total)):
        record = runner.records.get(name)
        point = record["parameters"] if record else propose(sweep, _seen(sweep, runner), index)
        yield _planned(sweep, point, name)


def _seen(sweep: Sweep, runner: Runner) -> list[Seen]:
    seen: list[Seen] = []
    for name, record in sorted(runner.records.by_name.items()):
        value = None
        if record["state"] == "finished" and sweep.method == "bayes":
            value = runner.value(_planned(sweep, record["parameters"], name))
            if value is None:
                raise UserError(f"{sweep.file}: metric.name: {sweep.metric!r} was not logged by run {name}")
        elif record["state"] == "failed":
            value = float("nan")
        seen.append((record["parameters"], value))
    return seen


def _planned(sweep: Sweep, point: dict[str, Any], name: str) -> Planned:
    command = sweep.arguments(point, [sys.executable])
    return Planned(name, group_of(sweep.file), tuple(command), point)


def _slug(value: Any) -> str:
    """A value as part of a folder's name; one that is changed for it, or cut, gets a hash, so names stay distinct."""
    text = str(value)
    slug = re.sub(r"[^\w.+-]+", "-", text)[:_LONGEST]
    return slug if slug == text else f"{slug.strip('-')}-{hashlib.sha256(text.encode()).hexdigest()[:6]}"


def plan_ablations(folder: Path, seeds: Sequence[int], more: Sequence[str] = ()) -> list[Planned]:
    """``base.yaml`` and each other YAML of a folder laid over it, for each seed.

    Args:
        folder: folder of the YAMLs.
        seeds: seeds of initialisation and of the order of the data.
        more: additional arguments of every run, such as ``--trainer.max_steps=100``.

    Raises:
        UserError: the folder has no ``base.yaml``.

    """
    base = folder / BASE
    if not base.is_file():
        raise UserError(f"{no_file(base)}; the folder's other YAMLs override keys of it")
    ablations = [file for file in sorted(folder.glob("*.yaml")) if file != base]
    group = group_of(folder)
    plan = []
    # seeds in the outer loop, so that configurations can be compared after the first seed
    for seed in seeds:
        for file in (base, *ablations):
            files = (base,) if file == base else (base, file)
            command = [sys.executable, "-m", "nextgpt_pl", "fit", *(a for f in files for a in ("-c", _from_here(f)))]
            command += [f"--seed_everything={seed}", f"--data.init_args.seed={seed}", *more]
            parameters = {"file": file.name, "seed": seed}
            plan.append(Planned(f"seed-{seed}", f"{group}/{file.stem}", tuple(command), parameters))
    return plan


def _from_here(file: Path) -> str:
    """A path relative to the working directory, independent of how the folder was given."""
    file = file.resolve()
    return str(file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file)
