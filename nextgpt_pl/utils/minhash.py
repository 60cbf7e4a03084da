"""MinHash signatures of texts: the share of equal values estimates the Jaccard similarity of their word n-grams."""

from __future__ import annotations

import hashlib
import re

import numpy as np

HASHES = 128  # the standard deviation of the estimated similarity is at most 0.5 / sqrt(128) = 0.044
_PRIME = np.uint64(2**61 - 1)
_WORD = re.compile(r"\w+")
_rng = np.random.Generator(np.random.PCG64(0))
# a * x + b with 32-bit numbers does not overflow 64 bits
_A = _rng.integers(1, 2**32, (HASHES, 1), dtype=np.uint64)
_B = _rng.integers(0, 2**32, (HASHES, 1), dtype=np.uint64)


def signature(text: str, size: int = 3) -> np.ndarray:
    """The signature of a text, ``(128,)`` uint32; case and punctuation make no difference.

    Args:
        text: the text.
        size: number of words of the n-grams; a shorter text has one n-gram.

    """
    words = _WORD.findall(text.lower())
    grams = {" ".join(words[i : i + size]) for i in range(max(1, len(words) - size + 1))}
    digests = (hashlib.blake2b(gram.encode("utf-8", "surrogatepass"), digest_size=4).digest() for gram in grams)
    values = np.frombuffer(b"".join(digests), np.uint32).astype(np.uint64)
    return ((_A * values + _B) % _PRIME).astype(np.uint32).min(axis=1)
