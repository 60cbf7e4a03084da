"""Evaluation against drawing alone, in one run: python benchmarks/evaluation.py

The run of the package answers items of routes of experiments/eval/pocket.yaml, and the replies are scored. Prints the
time of both relative to the part of it that the decoders' ``generate`` and the LLM with the encoder take (1 would be an
evaluation that costs nothing), and where the rest goes. Loading the run is not counted.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from figures import save

from nextgpt_pl.evaluation import Task, report, run
from nextgpt_pl.pipeline import AnyToAny
from nextgpt_pl.utils.paths import CHAT_RUN
from nextgpt_pl.verbs import evaluation

ROUTES = ("image->text", "text->image", "text->audio")
GOAL = 1.10


class Stopwatch:
    """Seconds by part; functions are replaced by ones that are timed, while it is used."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] += time.perf_counter() - began

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            with self.part(name):
                return function(*args, **kwargs)

        return call


def measure(model: AnyToAny, task: Task, folder: Path) -> dict[str, float]:
    """Seconds by part: all, drawing, LLM, answering, predict, score and report."""
    watch = Stopwatch()
    answer, write = model.batch, model._written
    generate = {modality: decoder.generate for modality, decoder in model.network.decoders.items()}
    model._written = watch.timed("LLM", write)  # type: ignore[method-assign]
    model.batch = watch.timed("answering", answer)  # type: ignore[method-assign]
    for modality, decoder in model.network.decoders.items():
        decoder.generate = watch.timed("drawing", generate[modality])  # type: ignore[method-assign]
    try:
        with watch.part("all"):
            with watch.part("predict"):
                run.predict(model, [task], folder, temperature=0.0, seed=0)
            with watch.part("score"):
                record = run.score([task], folder)
            with watch.part("report"):
                report.write(record, {}, folder)
    finally:
        model._written, model.batch = write, answer  # type: ignore[method-assign]
        for modality, decoder in model.network.decoders.items():
            decoder.generate = generate[modality]  # type: ignore[method-assign]
    failed = record["tasks"][task.name]["failed"]
    if failed:
        raise SystemExit(f"{task.name}: {failed}")
    return dict(watch.seconds)


def figures_of(seconds: dict[str, float], items: int) -> dict[str, float]:
    """The ratio of all to drawing and LLM, and milliseconds per item of each part."""
    llm, drawing = seconds["LLM"], seconds.get("drawing", 0.0)
    parts = {
        "drawing": drawing,
        "LLM": llm,
        "writing and waiting": seconds["predict"] - llm - drawing,
        "scores": seconds["score"],
        "report": seconds["report"],
    }
    return {
        "ratio": seconds["all"] / (llm + drawing),
        **{f"{name}, ms per item": 1000 * s / items for name, s in parts.items()},
    }


def main() -> None:
    """Parse the arguments, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=300, help="of each route")
    parser.add_argument("--routes", nargs="+", default=list(ROUTES), help="such as text->video")
    parser.add_argument("--run", type=Path, default=CHAT_RUN, help="folder of a run")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    tasks = evaluation.tasks_of(*evaluation.parse("test", ["-c", "experiments/eval/pocket.yaml"]))
    chosen = {task.name.removeprefix("pocket "): task for task in tasks}
    model = AnyToAny.from_run(options.run)
    figures: dict[str, float] = {}
    totals: defaultdict[str, float] = defaultdict(float)
    for route in options.routes:
        task = chosen[route]
        with tempfile.TemporaryDirectory() as scratch:
            task.count = 25
            measure(model, task, Path(scratch))  # loads the weights
        with tempfile.TemporaryDirectory() as scratch:
            task.count = options.items
            seconds = measure(model, task, Path(scratch))
        for name, value in seconds.items():
            totals[name] += value
        found = figures_of(seconds, options.items)
        figures |= {f"{route}: {name}": value for name, value in found.items()}
        show(route, found)
    found = figures_of(totals, options.items * len(options.routes))
    show(f"all {options.items * len(options.routes):,} items", found)
    print(f"goal: at most {GOAL:.2f} times the time of drawing and LLM")
    save(options.json, figures | {f"all: {name}": value for name, value in found.items()})


def show(what: str, figures: dict[str, float]) -> None:
    """Print the figures of a route."""
    parts = ", ".join(f"{name.removesuffix(', ms per item')} {ms:.1f}" for name, ms in list(figures.items())[1:])
    print(f"{what}: {figures['ratio']:.3f} times the time of drawing and LLM; ms per item: {parts}", flush=True)


if __name__ == "__main__":
    main()
