"""Metrics whose items lie on two processes. Fresh ones: forked ones inherit the locks of the parent's threads."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from nextgpt_pl.metrics import FrechetDistance

ONE_OF_TWO = """
import sys, torch
from nextgpt_pl.metrics import FrechetDistance
rank, folder = int(sys.argv[1]), sys.argv[2]
torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
sets = torch.load(f"{folder}/sets.pt", weights_only=True)
real, fake = (sets[name][rank::2] for name in ("real", "fake"))
metric = FrechetDistance(64)
metric.update(real, real=True)
metric.update(fake, real=False)
torch.save(metric.compute(), f"{folder}/{rank}.pt")
torch.distributed.destroy_process_group()
"""


def test_two_processes_find_what_one_finds(golden_folder, tmp_path):
    with np.load(golden_folder / "fid.npz") as arrays:
        real, fake = (torch.from_numpy(arrays[name]).double() for name in ("real", "fake"))
    torch.save({"real": real, "fake": fake}, tmp_path / "sets.pt")
    commands = [[sys.executable, "-c", ONE_OF_TWO, str(rank), str(tmp_path)] for rank in range(2)]
    processes = [subprocess.Popen(command) for command in commands]
    assert [process.wait(timeout=120) for process in processes] == [0, 0]
    metric = FrechetDistance(64)
    metric.update(real, real=True)
    metric.update(fake, real=False)
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert found.item() == pytest.approx(metric.compute().item(), rel=1e-9)
