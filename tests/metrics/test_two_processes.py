"""Metrics whose items lie on two processes.

They are forked by a fresh process, which imports once and has no threads: a test's process has some, and forked ones
inherit their locks.
"""

import subprocess
import sys

import numpy as np
import pytest
import torch

from nextgpt_pl.metrics import FrechetDistance

TWO = """
import os, sys, torch
from nextgpt_pl.metrics import FrechetDistance
folder, other = sys.argv[1], os.fork()
rank = 1 if other else 0
torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
sets = torch.load(f"{folder}/sets.pt", weights_only=True)
real, fake = (sets[name][rank::2] for name in ("real", "fake"))
metric = FrechetDistance(64)
metric.update(real, real=True)
metric.update(fake, real=False)
torch.save(metric.compute(), f"{folder}/{rank}.pt")
torch.distributed.destroy_process_group()
sys.exit(os.waitstatus_to_exitcode(os.waitpid(other, 0)[1]) if other else 0)
"""


def test_two_processes_find_what_one_finds(golden_folder, tmp_path):
    with np.load(golden_folder / "fid.npz") as arrays:
        real, fake = (torch.from_numpy(arrays[name]).double() for name in ("real", "fake"))
    torch.save({"real": real, "fake": fake}, tmp_path / "sets.pt")
    subprocess.run([sys.executable, "-c", TWO, str(tmp_path)], check=True, timeout=300)
    metric = FrechetDistance(64)
    metric.update(real, real=True)
    metric.update(fake, real=False)
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert found.item() == pytest.approx(metric.compute().item(), rel=1e-9)
