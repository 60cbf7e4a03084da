"""What is kept of a run: adapters (what was trained, and against what) and checkpoints to go on from."""

from nextgpt_pl.checkpoints.adapter import load_adapter, manifest_of, mismatches, save_adapter

__all__ = ["load_adapter", "manifest_of", "mismatches", "save_adapter"]
