"""``sweep`` and ``ablate``: run many experiments with one command, offline; finished runs are skipped."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nextgpt_pl.errors import UserError
from nextgpt_pl.sweeps.plans import group_of, plan_ablations, plan_grid, plan_search, search_names
from nextgpt_pl.sweeps.runner import Runner
from nextgpt_pl.sweeps.space import read_sweep
from nextgpt_pl.verbs.command import call

_EPILOG = "Arguments after -- are passed to every run: ablate DIR --seeds 0,1 -- --trainer.max_steps=100"


def sweep(file: Path, count: int | None = None, root: Path = Path("outputs"), jobs: int = 1) -> int:
    """Run a sweep in W&B's format (grid, random, bayes) without W&B's server.

    Args:
        file: the sweep's YAML.
        count: maximum number of runs now; random and bayes need it or run_cap in the YAML, and include finished runs.
        root: folder of all experiments; the runs are in its sweeps/NAME.
        jobs: number of parallel runs.

    """
    config = read_sweep(file)
    if config.early_terminate:
        print(f"{file}: early_terminate is supported by W&B's server only; here every run is completed")
    runner = Runner(root, group_of(file), config.metric, jobs)
    if config.method == "grid":
        return runner.run(plan_grid(config), count=count)
    total = config.run_cap or count
    if total is None:
        raise UserError(f"a {config.method} search never ends: give --count, or run_cap in {file}")
    return runner.run(plan_search(config, runner, total), search_names(total), count)


def ablate(
    folder: Path,
    seeds: str = "0",
    root: Path = Path("outputs"),
    jobs: int = 1,
    count: int | None = None,
    arguments: Sequence[str] = (),
) -> int:
    """Run a folder of ablations for each seed: base.yaml alone, and base.yaml with each other YAML.

    Args:
        folder: folder of the YAMLs, such as experiments/ablations.
        seeds: seeds, separated by commas.
        root: folder of all experiments; the runs are in its ablations/NAME/seed-N.
        jobs: number of parallel runs.
        count: maximum number of runs now.
        arguments: arguments of every run, such as --trainer.max_steps=100; on the command line, after --.

    """
    try:
        numbers = [int(seed) for seed in seeds.split(",")]
    except ValueError:
        raise UserError(f"--seeds={seeds}: whole numbers separated by commas are expected, such as 0,1,2") from None
    plan = plan_ablations(folder, numbers, arguments)
    return Runner(root, group_of(folder), jobs=jobs).run(plan, count=count)


def main(argv: Sequence[str]) -> int:
    """Parse and run ``sweep`` or ``ablate``."""
    if argv[0] == "sweep":
        return call(sweep, argv, positional=["file"])
    own, run_arguments = list(argv), []
    if "--" in own:
        split = own.index("--")
        own, run_arguments = own[:split], own[split + 1 :]
    return call(ablate, own, positional=["folder"], epilog=_EPILOG, arguments=run_arguments)
