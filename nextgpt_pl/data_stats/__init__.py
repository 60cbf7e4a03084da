"""Statistics of an experiment's data: counts, lengths, properties of media, duplicates, what splits have in common.

Rows are read once, by worker processes, and aggregated as they come. The main process keeps about 50 bytes per row, and
128 more in a temporary file.
"""

from nextgpt_pl.data_stats.page import write_page
from nextgpt_pl.data_stats.survey import Survey

__all__ = ["Survey", "write_page"]
