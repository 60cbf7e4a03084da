"""Metrics: pure functions, and torchmetrics classes that use them."""

from nextgpt_pl.metrics.alignment import AlignmentQuality
from nextgpt_pl.metrics.caption_scores import CaptionScores
from nextgpt_pl.metrics.media_scores import FrechetDistance
from nextgpt_pl.metrics.word_errors import WordErrorRate

__all__ = ["AlignmentQuality", "CaptionScores", "FrechetDistance", "WordErrorRate"]
