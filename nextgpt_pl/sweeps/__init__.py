"""Sweeps and ablations: many runs from one YAML or one folder of YAMLs; resumable."""

from nextgpt_pl.sweeps.runner import Planned, Runner
from nextgpt_pl.sweeps.space import Sweep, read_sweep

__all__ = ["Planned", "Runner", "Sweep", "read_sweep"]
