"""Training steps against a plain reference and against the bare LLM, in one run: python benchmarks/steps.py

The reference does what the official code does (step_variants.py says what); same weights, same batch: the losses are
compared. The bare limit is the LLM's forward and backward on the same embeddings, with its head on the labelled
positions, and nothing else. All take turns; medians are printed. Peak memory is that of a process of its own that
runs one of them.

Models are random, of the real classes: by default an ImageBind of 66M parameters and a Llama of 58M; ``--llm smol`` has
the sizes of SmolLM2-135M. Media: equal numbers of images, videos (5 clips in 3 crops each) and sounds (3 clips).
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
from statistics import median

import torch
from step_variants import KINDS, LLMS, STAGES, Bare, Ours, ProjectionsAlone, Reference, save_models

from nextgpt_pl.features import FeatureCache


def peak_megabytes(kind: str, arguments: argparse.Namespace, stage: str, folder: Path) -> float:
    """Peak memory of a process of its own, above what it has before a model is built."""
    command = [sys.executable, __file__, "--memory-of", kind, "--stage", stage, "--models", str(folder)]
    command += ["--per-modality", str(arguments.per_modality), "--llm", arguments.llm]
    # large blocks go back to the system at once: what is held counts, not what the allocator keeps for later
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    out = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout
    return float(out.split()[-1])


def print_memory(arguments: argparse.Namespace) -> None:
    """The child of :func:`peak_megabytes`: ours with a full cache on disk, or the reference."""
    before = _peak()
    # of a run with a full cache, the encoder is not there
    cache = FeatureCache(arguments.models / "cache", "float32") if arguments.memory_of == "ours" else None
    step = KINDS[arguments.memory_of](arguments.stage, arguments.models, arguments.per_modality, cache)
    for _ in range(2):
        step()
    print((_peak() - before) / 1024)


def _peak() -> int:
    """Kilobytes of this program; the usual counter starts with what its parent had."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(re.search(r"VmHWM:\s+(\d+)", status)[1])  # type: ignore[index]


def compare(stage: str, arguments: argparse.Namespace, folder: Path) -> None:
    """Time one stage's variants in turns, and print."""
    ours = Ours(stage, folder, arguments.per_modality)
    uncached = Ours(stage, folder, arguments.per_modality)
    reference = Reference(stage, folder, arguments.per_modality)
    bare = Bare(stage, folder, arguments.per_modality)
    turns: dict[str, Ours] = {"cached": ours, "uncached": uncached, "reference": reference, "bare LLM": bare}
    if stage == "dec_align":
        turns["projections alone"] = ProjectionsAlone(stage, folder, arguments.per_modality)
    first = {name: turn() for name, turn in turns.items()}
    samples = len(ours.batch)
    times: dict[str, list[float]] = {name: [] for name in turns}
    for _ in range(arguments.repeats):
        for name, turn in turns.items():
            if name == "uncached":
                turn.forget()
            started = time.perf_counter()
            turn()
            times[name].append(time.perf_counter() - started)
    found = {name: median(values) for name, values in times.items()}
    print(f"{stage}: {samples} samples of {ours.batch.input_ids.shape[1]} tokens")
    print(f"  losses: ours {first['cached']:.6f}, reference {first['reference']:.6f}")
    for name, seconds in found.items():
        print(f"  {name:<18} {seconds:8.3f} s a step, {samples / seconds:8.1f} samples/s")
    print(f"  cached is {found['reference'] / found['cached']:.1f} times as fast as the reference,", end=" ")
    print(f"uncached {found['reference'] / found['uncached']:.1f} times")
    if stage == "dec_align":
        ratio = found["cached"] / found["projections alone"]
        print(f"  a cached step takes {ratio:.2f} times what its projections alone do")
    else:
        print(f"  a cached step takes {found['cached'] / found['bare LLM']:.2f} times what the LLM alone does")


def flops_at_7b(stage: str) -> str:
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
    return f"  by operations at 7B, rows of {tokens} tokens: {reference / ours:.1f} times fewer than the reference"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stage", choices=STAGES, action="append", help="all without it")
    parser.add_argument("--llm", choices=sorted(LLMS), default="small")
    parser.add_argument("--per-modality", type=int, default=4, help="media of each kind in the batch")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--no-memory", action="store_true", help="leave out the peak memory")
    parser.add_argument("--memory-of", choices=("ours", "reference"), help=argparse.SUPPRESS)
    parser.add_argument("--models", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.memory_of:
        (arguments.stage,) = arguments.stage
        print_memory(arguments)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save_models(folder, arguments.llm)
        for stage in arguments.stage or STAGES:
            compare(stage, arguments, folder)
            if not arguments.no_memory:
                for _ in range(2):  # the first fills the cache
                    ours = peak_megabytes("ours", arguments, stage, folder)
                theirs = peak_megabytes("reference", arguments, stage, folder)
                print(f"  peak memory {ours:.0f} MB against the reference's {theirs:.0f} MB: {ours / theirs:.2f}")
            print(flops_at_7b(stage), flush=True)


if __name__ == "__main__":
    main()
