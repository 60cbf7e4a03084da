"""Reads run folders: tables, groups over seeds, figures, pages. Imports no torch, so that reading stays quick."""

from nextgpt_pl.config.flat import flatten
from nextgpt_pl.reports.keys import short_names
from nextgpt_pl.reports.runs import Run, final_table, find_runs, latest

__all__ = ["Run", "final_table", "find_runs", "flatten", "latest", "short_names"]
