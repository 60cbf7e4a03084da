"""Sampling groups of items."""

import numpy as np

from nextgpt_pl.datamodules.kinds import Groups


def groups_of(names):
    """From the group of each item."""
    distinct = list(dict.fromkeys(names))
    return Groups(np.array([distinct.index(name) for name in names], np.int32), tuple(distinct))
