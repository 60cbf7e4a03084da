"""``sweep`` and ``ablate``: many runs by one command, offline; what is done already is not done again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nextgpt_pl.errors import UserError
from nextgpt_pl.sweeps.plans import group_of, plan_ablations, plan_grid, plan_search, search_names
from nextgpt_pl.sweeps.runner import Runner
from nextgpt_pl.sweeps.space import read_sweep
from nextgpt_pl.verbs.command import call

_BEHIND = "What stands behind -- is given to every run: ablate DIR --seeds 0,1 -- --trainer.max_steps=100"


def sweep(file: Path, count: int | None = None, root: Path = Path("outputs"), jobs: int = 1) -> int:
    """Do the runs of a sweep in W&B's format (grid, random, bayes) without W&B's server.

    Args:
        file: the sweep's YAML.
        count: most runs to be done now; random and bayes need it, or run_cap in the YAML, and count those done before.
        root: folder of all experiments; the runs lie in its sweeps/NAME.
        jobs: runs at a time.

    """
    found = read_sweep(file)
    if found.early_terminate:
        print(f"{file}: early_terminate is W&B's server's work; here every run goes on to its end")
    runner = Runner(root, group_of(file), found.metric, jobs)
    if found.method == "grid":
        return runner.run(plan_grid(found), count=count)
    total = found.run_cap or count
    if total is None:
        raise UserError(f"a {found.method} search never ends: give --count, or run_cap in {file}")
    return runner.run(plan_search(found, runner, total), search_names(total), count)


def ablate(
    folder: Path,
    seeds: str = "0",
    root: Path = Path("outputs"),
    jobs: int = 1,
    count: int | None = None,
    arguments: Sequence[str] = (),
) -> int:
    """Do the runs of a folder of ablations: base.yaml, and every other YAML laid over it, for each seed.

    Args:
        folder: of the YAMLs, such as experiments/ablations.
        seeds: separated by commas.
        root: folder of all experiments; the runs lie in its ablations/NAME/seed-N.
        jobs: runs at a time.
        count: most runs to be done now.
        arguments: of every run, such as --trainer.max_steps=100; on the command line, behind --.

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
    own, more = list(argv), []
    if "--" in own:
        split = own.index("--")
        own, more = own[:split], own[split + 1 :]
    return call(ablate, own, positional=["folder"], epilog=_BEHIND, arguments=more)
