"""Metrics: a pure functional core with thin torchmetrics classes over it."""

from nextgpt_pl.metrics.alignment import AlignmentQuality

__all__ = ["AlignmentQuality"]
