"""Quality of the pocket decoders by number of denoising steps: python benchmarks/sampler_steps.py

Held-out captions, by the decoder's own text encoder; media are judged exactly. The experiments' settings are compared
with numbers of steps that are all guided, by the pipeline's own scheduler. Prints how many media are right in all
attributes, and the CPU time relative to the experiments' settings.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from figures import save

from nextgpt_pl.decoders.set_up import SetUp
from nextgpt_pl.evaluation import JudgedRight, PocketDecoder
from nextgpt_pl.evaluation.run import predict, score
from nextgpt_pl.modality import GENERATED

STEPS = (20, 10, 8, 6)


def measure(modality: str, count: int, steps: int | None) -> tuple[float, float]:
    """Share of right media, and CPU seconds; ``steps=None``: the decoder's own settings."""
    task = PocketDecoder(modality, [JudgedRight()], count)
    if steps is not None:
        task.decoder.set_up = SetUp()
        task.decoder.sampling |= {"num_inference_steps": steps, "guidance_interval": None}
    with TemporaryDirectory() as name:
        started = time.process_time()
        predict(None, [task], Path(name), temperature=0.0, seed=0)
        seconds = time.process_time() - started
        found = score([task], Path(name))["tasks"][task.name]["scores"]
    return found["all right"]["value"], seconds


def main() -> None:
    """Parse the arguments and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=100, help="captions of each modality")
    parser.add_argument("--modality", choices=[m.value for m in GENERATED], action="append", help="all without it")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    arguments = parser.parse_args()
    figures: dict[str, dict[str, list[float]]] = {}
    torch.set_num_threads(1)
    for modality in arguments.modality or [m.value for m in GENERATED]:
        measure(modality, 1, 1)  # imports are not drawing
        own, seconds = measure(modality, arguments.count, None)
        print(f"{modality}, as in the experiments: {own:.1%} right", flush=True)
        of_modality = figures[modality] = {"share right, of the time: as in the experiments": [own, 1.0]}
        for steps in STEPS:
            right, took = measure(modality, arguments.count, steps)
            of_modality[f"{steps} steps"] = [right, took / seconds]
            print(f"  {steps:>3} steps: {right:.1%} right, {took / seconds:.2f} times the time", flush=True)
    save(arguments.json, figures)


if __name__ == "__main__":
    main()
