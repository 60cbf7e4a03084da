"""Duplicates within a split and overlaps of splits, from arrays of hashes and signatures."""

from __future__ import annotations

import numpy as np

from nextgpt_pl.utils.minhash import HASHES

THRESHOLD = 0.8  # estimated similarity above which texts are near-duplicates
_BANDS = HASHES // 8  # of 8 values of one byte, which are one number of 8 bytes
_BLOCK = 1 << 16  # pairs that are compared at a time


def first_places(hashes: np.ndarray) -> np.ndarray:
    """Position of the first occurrence of each distinct hash, ascending, ``(k,)`` int64."""
    return np.sort(np.unique(hashes, return_index=True)[1])


def most_frequent(hashes: np.ndarray, most: int) -> list[tuple[int, int]]:
    """Position of the first occurrence, and number of occurrences, of the hashes that occur most and at least twice."""
    _, first, counts = np.unique(hashes, return_index=True, return_counts=True)
    order = np.lexsort((first, -counts))[:most]
    return [(int(first[i]), int(counts[i])) for i in order if counts[i] > 1]


def near_duplicates(texts: np.ndarray, signatures: np.ndarray) -> np.ndarray:
    """Texts that are similar to an earlier one; of equal texts, the first one counts.

    Candidates are found by locality-sensitive hashing in 16 bands of 8 values: two texts of similarity 0.8 share a band
    with a probability of 95%, two of 0.9 with 99.99%. A text is compared to the first one with the same band only.

    Args:
        texts: hash of each text, ``(n,)``.
        signatures: lowest bytes of their signatures, ``(n, 128)`` uint8, in memory or on disk.

    Returns:
        Positions of such texts and of the earlier ones, ``(k, 2)`` int64, in ascending order of the first column.

    """
    distinct = first_places(texts)
    earlier = np.full(len(distinct), -1)
    bands = signatures.view(np.uint64)
    for band in range(_BANDS):
        keys = np.asarray(bands[distinct, band])
        order = np.argsort(keys, kind="stable")
        starts = np.ones(len(order), bool)
        starts[1:] = keys[order][1:] != keys[order][:-1]
        heads = order[np.flatnonzero(starts)[np.cumsum(starts) - 1]]
        open_ones = ~starts & (earlier[order] < 0)
        for low in range(0, int(open_ones.sum()), _BLOCK):
            members, first = order[open_ones][low : low + _BLOCK], heads[open_ones][low : low + _BLOCK]
            similar = _similarity(signatures[distinct[members]], signatures[distinct[first]]) >= THRESHOLD
            earlier[members[similar]] = first[similar]
    found = np.flatnonzero(earlier >= 0)
    return np.stack([distinct[found], distinct[earlier[found]]], axis=1)


def _similarity(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Estimated Jaccard similarity of texts, ``(n,)``, from their signatures, ``(n, 128)`` uint8."""
    by_chance = 1 / 256
    return ((first == second).mean(axis=1) - by_chance) / (1 - by_chance)
