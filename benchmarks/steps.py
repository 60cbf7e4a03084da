"""Training steps against the official code's computation and against their limits: python benchmarks/steps.py

step_variants.py says what the variants compute. The limit of a stage is the LLM's forward and backward on the same
embeddings, with its head at the labels; that of stage 2 with frozen signal rows is the output projections' own step.
All variants take turns in one run. Ours has ``llm.frozen_prefix`` in stages 1 and 2, as in the pocket experiments.
Printed are medians, and medians of the paired ratios with their range; the losses are compared.

Models are random, of the real classes: an ImageBind of 66M parameters, and a Llama of 58M (``small``) or with the sizes
of SmolLM2 (``smol`` 135M, ``smol360`` 360M). Without ``--encoder``, the features of input media are given to all.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from random import Random
from statistics import median

import torch
from figures import save
from step_variants import (
    KINDS,
    LLMS,
    STAGES,
    Bare,
    Ours,
    ProjectionsAlone,
    Reference,
    Released,
    Setting,
    WithoutHead,
    save_models,
)

from nextgpt_pl.features import FeatureCache
from nextgpt_pl.modality import GENERATED, Modality

Ratios = dict[str, tuple[float, float, float]]


def variants(setting: Setting) -> dict[str, Ours]:
    """The variants of a stage; ``first`` is to :meth:`~Ours.forget` before each step."""
    made: dict[str, Ours] = {"ours": Ours(setting)}
    made |= {"reference": Reference(setting), "as released": Released(setting)}
    if setting.stage == "dec_align_frozen":
        made["limit"] = ProjectionsAlone(setting)
    else:
        made |= {"limit": Bare(setting), "layers": WithoutHead(setting)}
    if setting.stage == "dec_align_frozen" or setting.encoder:
        made["first"] = Ours(setting)
    return made


def compare(setting: Setting, repeats: int) -> tuple[dict[str, float], Ratios, dict[str, float]]:
    """Median seconds of each variant; median, minimum and maximum of paired ratios; losses of the first step."""
    turns = variants(setting)
    losses = {name: turn() for name, turn in turns.items()}
    for turn in turns.values():
        turn()  # warm-up: kernels and compilation
    times: dict[str, list[float]] = {name: [] for name in turns}
    order = Random(0)
    for _ in range(repeats):
        # in another order each time, since a variant leaves the caches and the allocator to the next one
        for name, turn in order.sample(sorted(turns.items()), len(turns)):
            if name == "first":
                turn.forget()
            started = time.perf_counter()
            turn()
            times[name].append(time.perf_counter() - started)
    pairs = [("reference", "ours"), ("as released", "ours"), ("ours", "limit")]
    pairs += [("ours", "layers")] if "layers" in turns else []
    pairs += [("reference", "first")] if "first" in turns else []
    ratios = {f"{one} / {two}": spread(times[one], times[two]) for one, two in pairs}
    return {name: median(values) for name, values in times.items()}, ratios, losses


def spread(one: list[float], two: list[float]) -> tuple[float, float, float]:
    """Median, minimum and maximum of paired ratios."""
    ratios = [a / b for a, b in zip(one, two, strict=True)]
    return median(ratios), min(ratios), max(ratios)


def peak_megabytes(kind: str, arguments: argparse.Namespace, stage: str, folder: Path) -> float:
    """Peak memory of a process of its own, above what it has before a model is built."""
    command = [sys.executable, __file__, "--memory-of", kind, "--stage", stage, "--models", str(folder)]
    command += ["--rows", str(arguments.rows), "--context", str(arguments.context)]
    command += ["--llm", arguments.llm, "--media", arguments.media]
    # large blocks go back to the system at once: what is held counts, not what the allocator keeps for later
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    out = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout
    return float(out.split()[-1])


def print_memory(arguments: argparse.Namespace) -> None:
    """The child of :func:`peak_megabytes`: ours with a full cache on disk, or the reference with its encoder."""
    before = _peak()
    # of a run with a full cache, the encoder is not there
    cache = FeatureCache(arguments.models / "cache", "float32") if arguments.memory_of == "ours" else None
    (stage,) = arguments.stage
    setting = Setting(
        stage, arguments.models, arguments.rows, arguments.context, media_of(arguments), encoder=True, cache=cache
    )
    step = KINDS[arguments.memory_of](setting)
    for _ in range(2):
        step()
    print((_peak() - before) / 1024)


def _peak() -> int:
    """Kilobytes of this program; the usual counter starts with what its parent had."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(re.search(r"VmHWM:\s+(\d+)", status)[1])  # type: ignore[index]


def flops_at_7b(stage: str) -> float:
    """The reference's operations over ours, for the paper's model, without weights."""
    from nextgpt_pl.sizing import budget, costs
    from nextgpt_pl.training.cli import build_model

    file = Path(__file__).parent.parent / "experiments" / "paper_v1" / f"{stage}.yaml"
    with torch.device("meta"):
        model, _ = build_model(["-c", str(file)])
        model.configure_model()
    network = model.network
    rows, tokens, labels = 3, 64, 24
    work = budget.Workload(rows, tokens, labels, 1, "replicated", shown=stage != "dec_align", made=stage != "enc_align")
    parts = budget.step_costs(network, work)
    encoder = sum(cost.forward // rows for name, cost in parts.items() if name.endswith(" encoder"))
    projections = sum(cost.flops // rows for name, cost in parts.items() if name.endswith(" projection"))
    everywhere = costs.llm_cost(network, rows, tokens, rows * tokens).flops
    reference = encoder + projections + everywhere
    ours = projections + (0 if stage == "dec_align" else parts["llm"].flops)
    return reference / ours


def media_of(arguments: argparse.Namespace) -> tuple[Modality, ...]:
    """The modalities of the rows."""
    return GENERATED if arguments.media == "mixed" else (Modality(arguments.media),)


def measure(stage: str, arguments: argparse.Namespace, folder: Path) -> dict[str, object]:
    """Compare the variants of one stage, print and return the figures."""
    options = {"packing": arguments.packed, "compile": arguments.compile}
    options["frozen_prefix"] = stage != "instruct" and not (arguments.packed or arguments.plain)
    setting = Setting(stage, folder, arguments.rows, arguments.context, media_of(arguments), arguments.encoder, options)
    seconds, ratios, losses = compare(setting, arguments.repeats)
    print(
        f"{stage}: {arguments.rows} rows, {arguments.media} media, {'with' if arguments.encoder else 'without'} encoder"
    )
    print("  losses: " + ", ".join(f"{name} {losses[name]:.6f}" for name in ("ours", "reference")))
    for name, value in seconds.items():
        print(f"  {name:<12} {value:8.3f} s a step")
    for name, (middle, low, high) in ratios.items():
        print(f"  {name:<22} {middle:6.2f} [{low:.2f}, {high:.2f}]", flush=True)
    figures: dict[str, object] = {"seconds": seconds, "ratios": ratios, "losses": losses}
    if arguments.memory:
        for _ in range(2):  # the first fills the cache
            ours = peak_megabytes("ours", arguments, stage, folder)
        theirs = peak_megabytes("reference", arguments, stage, folder)
        print(f"  peak memory {ours:.0f} MB against the reference's {theirs:.0f} MB: {ours / theirs:.2f}")
        figures["megabytes"] = {"ours": ours, "reference": theirs}
    if arguments.operations and stage != "dec_align":
        times = flops_at_7b(stage.removesuffix("_frozen"))
        print(f"  by operations at 7B, rows of 64 tokens: {times:.1f} times fewer than the reference", flush=True)
        figures["operations at 7B"] = times
    return figures


def main() -> None:
    """Parse the arguments and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stage", choices=STAGES, action="append", help="all without it")
    parser.add_argument("--llm", choices=sorted(LLMS), default="small")
    parser.add_argument("--rows", type=int, default=15, help="of the batch")
    parser.add_argument("--context", type=int, default=32, help="tokens of a system prompt in front of each row")
    parser.add_argument("--media", choices=("mixed", *(m.value for m in GENERATED)), default="image")
    parser.add_argument("--encoder", action="store_true", help="the reference runs the encoder in each step")
    parser.add_argument("--plain", action="store_true", help="without llm.frozen_prefix in stages 1 and 2")
    parser.add_argument("--packed", action="store_true", help="llm.packing of ours and of the limit")
    parser.add_argument("--compile", action="store_true", help="llm.compile of all")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--memory", action="store_true", help="also the peak memory, each in a process of its own")
    parser.add_argument("--operations", action="store_true", help="also the operations of the paper's model")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--memory-of", choices=sorted(KINDS), help=argparse.SUPPRESS)
    parser.add_argument("--models", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.memory_of:
        print_memory(arguments)
        return
    with tempfile.TemporaryDirectory() as name:
        save_models(Path(name), arguments.llm)
        figures = {stage: measure(stage, arguments, Path(name)) for stage in arguments.stage or STAGES}
    save(arguments.json, figures)


if __name__ == "__main__":
    main()
