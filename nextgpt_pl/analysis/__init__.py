"""Reads run folders: tables, groups over seeds, figures, pages. Imports no torch, so that reading stays quick."""

from nextgpt_pl.analysis.keys import flatten, short_names
from nextgpt_pl.analysis.runs import Run, find_runs

__all__ = ["Run", "find_runs", "flatten", "short_names"]
