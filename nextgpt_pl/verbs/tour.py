"""``tour``: train the three stages on the pocket models, and write a page of the results."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from nextgpt_pl.errors import UserError, no_file
from nextgpt_pl.utils.parents import child_environment
from nextgpt_pl.verbs.command import call
from nextgpt_pl.verbs.score import score

STAGES = ("enc_align", "dec_align", "instruct")


def tour(
    out: Path = Path("outputs/tour"),
    experiments: Path = Path("experiments"),
    count: int = 50,
    replies: int = 200,
    max_steps: int | None = None,
) -> None:
    """Train the three stages one after the other, score the result, and write a page of curves and samples.

    Args:
        out: folder of ``index.html`` and of the runs.
        experiments: folder of the stages' YAMLs; YAMLs of the same names in its ``tour/`` shorten the stages.
        count: number of dialogues per route.
        replies: number of sampled replies in which malformed signal spans are counted.
        max_steps: steps of each stage, instead of those of its YAML; a few steps make a quick test.

    """
    from nextgpt_pl.verbs.page import Tour, write_page

    result = Tour(out)
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    adapter: Path | None = None
    for stage in STAGES:
        file = experiments / f"{stage}.yaml"
        if not file.is_file():
            raise UserError(f"{no_file(file)}; --experiments names another folder")
        started = time.perf_counter()
        adapter = _fit(file, stage, out, stamp, adapter, max_steps)
        result.runs[stage] = adapter.parent
        result.seconds[stage] = time.perf_counter() - started
    started = time.perf_counter()
    record = score(result.runs["instruct"], count, replies, config=experiments / "eval" / "pocket.yaml")
    result.seconds["score table"] = time.perf_counter() - started
    started = time.perf_counter()
    page = write_page(result, record)
    result.seconds["page"] = time.perf_counter() - started
    total = sum(result.seconds.values())
    print(", ".join(f"{name} {seconds:.0f} s" for name, seconds in result.seconds.items()) + f"; {total / 60:.1f} min")
    print(f"tour: {page}")


def _fit(file: Path, stage: str, out: Path, name: str, adapter: Path | None, max_steps: int | None) -> Path:
    """Train a stage in a subprocess, and return the folder of its adapter."""
    shorter = file.parent / "tour" / file.name
    files = [str(f) for f in (file, shorter) if f.is_file()]
    command = [sys.executable, "-m", "nextgpt_pl", "fit", *(argument for f in files for argument in ("-c", f))]
    command += [f"--run.root={out}", f"--run.experiment={stage}", f"--run.name={name}"]
    if adapter is not None:
        command.append(f"--model.init_from={adapter}")
    if max_steps is not None:
        command += [f"--trainer.max_steps={max_steps}", f"--trainer.val_check_interval={max_steps}"]
    print(f"tour: {' '.join(command[1:])}", flush=True)
    status = subprocess.run(command, check=False, env={**os.environ, **child_environment()}).returncode
    trained = out / stage / name / "adapter"
    if status or not trained.is_dir():
        raise UserError(f"stage {stage} failed with exit code {status}; its messages are above")
    return trained.resolve()


def main(argv: Sequence[str]) -> int:
    """Parse and run ``tour``."""
    call(tour, argv)
    return 0
