"""Adapters: what was trained, and what it was trained against."""

from nextgpt_pl.checkpoints.adapter import load_adapter, save_adapter

__all__ = ["load_adapter", "save_adapter"]
