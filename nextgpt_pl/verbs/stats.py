"""``data stats``: what is in the data of an experiment, as a page, as JSON and as a table."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from nextgpt_pl.config.errors import config_files
from nextgpt_pl.errors import at_least
from nextgpt_pl.utils.atomic import write_atomic
from nextgpt_pl.utils.processes import noted_interrupts
from nextgpt_pl.verbs.command import helped, options_of


@dataclass
class Options:
    """Options of ``data stats``; the other arguments are keys of the YAML, as for ``fit``.

    Args:
        output: folder of the page and of the numbers, which are named like the YAML.
        sample: number of media per source and split whose files are read, drawn at random; 0: all.
        workers: number of processes that read; 0 reads in the main process.

    """

    output: Path = Path("outputs/data_stats")
    sample: int = 10_000
    workers: int = min(8, os.cpu_count() or 1)

    def __post_init__(self) -> None:
        at_least(0, **{"--sample": self.sample, "--workers": self.workers})


def stats(arguments: list[str]) -> int:
    """Run ``data stats -c FILE``.

    Returns:
        0; 130 if it was interrupted, with what was counted until then.

    Raises:
        UserError: the configuration is invalid, or ``fit`` would refuse the data.

    """
    if helped(arguments, "data stats", Options):
        return 0
    from nextgpt_pl.data_stats import Survey, write_page
    from nextgpt_pl.data_stats.page import summary_table
    from nextgpt_pl.training.cli import build_with_options

    _, data, config = build_with_options(arguments, Options)
    options = options_of(config, Options)
    options.output.mkdir(parents=True, exist_ok=True)
    survey = Survey(data, options.output, options.workers, options.sample)
    with noted_interrupts() as stop:
        survey.run(stop)
    numbers, name = survey.numbers(), config_files(arguments)[-1].stem
    write_atomic(options.output / f"{name}.json", json.dumps(numbers, indent=1, allow_nan=False) + "\n")
    write_atomic(options.output / f"{name}.html", write_page(survey, numbers, f"Data of {name}"))
    _print(*summary_table(numbers))
    print(f"{options.output / name}.html, {options.output / name}.json")
    if not survey.complete:
        print("interrupted: the numbers are of what was read")
    return 0 if survey.complete else 130


def _print(header: list[str], rows: list[list[str]]) -> None:
    import pandas as pd

    print(pd.DataFrame(rows, columns=header).to_string(index=False))
