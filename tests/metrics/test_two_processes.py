"""Metrics whose items lie on two processes."""

import numpy as np
import pytest
import torch
from two_ranks import run_as_two

from nextgpt_pl.metrics import FrechetDistance

IMPORTS = "from nextgpt_pl.metrics import FrechetDistance"
TWO = """
sets = torch.load(f"{folder}/sets.pt", weights_only=True)
real, fake = (sets[name][rank::2] for name in ("real", "fake"))
metric = FrechetDistance(64)
metric.update(real, real=True)
metric.update(fake, real=False)
torch.save(metric.compute(), f"{folder}/{rank}.pt")
"""


def test_two_processes_find_what_one_finds(golden_folder, tmp_path):
    with np.load(golden_folder / "fid.npz") as arrays:
        real, fake = (torch.from_numpy(arrays[name]).double() for name in ("real", "fake"))
    torch.save({"real": real, "fake": fake}, tmp_path / "sets.pt")
    run_as_two(IMPORTS, TWO, tmp_path)
    metric = FrechetDistance(64)
    metric.update(real, real=True)
    metric.update(fake, real=False)
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert found.item() == pytest.approx(metric.compute().item(), rel=1e-9)
