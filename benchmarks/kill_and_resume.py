"""Kill a small run at random moments, restart it each time, and compare it with an uninterrupted run.

python benchmarks/kill_and_resume.py [--kills 10] [--seed 0]
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from safetensors.torch import load_file

READ = "train: used"  # what a run says when its data are read, shortly before the first step
ROOT = Path(__file__).parent.parent
SMALL = [
    "--trainer.max_steps=40",
    "--trainer.val_check_interval=7",
    "--trainer.limit_val_batches=1",
    "--trainer.enable_progress_bar=false",
    "--model.samples=0",
    "--model.network.output_projection.init_args.width=32",
    "--data.batch_size=4",
    "--data.num_workers=1",
    "--data.sources.init_args.train_size=20",
    "--data.sources.init_args.val_size=2",
    "--run.resume=true",
    "--run.checkpoint_every=1",
]


def sharded(devices: int) -> list[str]:
    """Arguments of a run in several processes on the CPU."""
    strategy = str(ROOT / "experiments" / "strategies" / "fsdp2.yaml")
    return ["-c", strategy, "--trainer.accelerator=cpu", f"--trainer.devices={devices}"]


def start(folder: Path, name: str, extra: list[str]) -> subprocess.Popen[str]:
    """The command of the run; always the same."""
    command = [sys.executable, "-m", "nextgpt_pl", "fit", "-c", str(ROOT / "experiments" / "dec_align.yaml")]
    command += [*SMALL, *extra, f"--run.root={folder}", f"--run.name={name}"]
    environment = {**os.environ, "WANDB_MODE": "disabled", "PYTHONUNBUFFERED": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(command, env=environment, start_new_session=True, **pipes)


def until(process: subprocess.Popen[str], text: str) -> bool:
    """Read the output up to a line with ``text``."""
    assert process.stdout is not None
    return any(text in line for line in process.stdout)


def finish(process: subprocess.Popen[str]) -> None:
    """Wait for an uninterrupted run."""
    output = process.communicate(timeout=3600)[0]
    if process.returncode:
        raise RuntimeError(f"the run failed:\n{output[-3000:]}")


def steps_saved(run: Path) -> int:
    """Step of the newest checkpoint; every existing checkpoint must be readable."""
    steps = [torch.load(p, weights_only=True)["global_step"] for p in (run / "checkpoints").glob("step_*.ckpt")]
    return max(steps, default=0)


def kill_at_random(folder: Path, kills: int, seed: int, extra: list[str]) -> bool:
    """Whether the weights are equal in the end; prints what happened."""
    moments = random.Random(seed)
    began = time.perf_counter()
    alone = start(folder, "alone", extra)
    until(alone, READ)
    trained = time.perf_counter()
    finish(alone)
    length = time.perf_counter() - trained
    print(f"alone: {trained - began:.0f} s to start, {length:.0f} s to train", flush=True)
    run = folder / "dec_align" / "killed"
    for number in range(1, kills + 1):
        process = start(folder, "killed", extra)
        until(process, READ)
        # spread over the whole training: each attempt gets on by about one share of it
        time.sleep(moments.uniform(0, 2 * length / (kills + 1)))
        ended = process.poll() is not None
        if not ended:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        print(f"kill {number}: {'too late, it had ended' if ended else f'at step {steps_saved(run)}'}", flush=True)
    finish(start(folder, "killed", extra))
    ours, theirs = (
        load_file(folder / "dec_align" / n / "adapter" / "adapter.safetensors") for n in ("killed", "alone")
    )
    equal = ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
    print(f"{len(ours)} tensors after {kills} kills: {'equal bit for bit' if equal else 'DIFFERENT'}")
    return equal


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--devices", type=int, default=1, help="more than one: sharded, on the CPU")
    options = parser.parse_args()
    extra = []
    if options.devices > 1:
        extra = sharded(options.devices)
    with tempfile.TemporaryDirectory() as folder:
        return 0 if kill_at_random(Path(folder), options.kills, options.seed, extra) else 1


if __name__ == "__main__":
    sys.exit(main())
