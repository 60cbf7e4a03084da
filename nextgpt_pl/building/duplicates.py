"""Near-duplicates of texts, found by MinHash signatures."""

from __future__ import annotations

import hashlib
import re

import numpy as np

from nextgpt_pl.errors import UserError, at_least

_HASHES = 128  # the standard deviation of the estimated similarity is at most 0.5 / sqrt(128) = 0.044
_PRIME = np.uint64(2**61 - 1)
_WORD = re.compile(r"\w+")


class NearDuplicates:
    """Criterion of near-duplicates: the Jaccard similarity of the word n-grams of all messages of the user.

    Args:
        threshold: dialogues of at least this similarity to an earlier one are dropped; above 1, none is.
        words: length of the n-grams.

    """

    def __init__(self, threshold: float = 0.8, words: int = 3) -> None:
        at_least(1, duplicates__words=words)
        if not 0 < threshold < float("inf"):
            raise UserError(f"duplicates.threshold={threshold}: a similarity above 0 is expected")
        self.threshold, self.words = threshold, words


class SeenTexts:
    """Signatures of texts, of 512 bytes each.

    Args:
        criterion: threshold and length of the n-grams.

    """

    def __init__(self, criterion: NearDuplicates) -> None:
        self.criterion = criterion
        rng = np.random.Generator(np.random.PCG64(0))
        # a * x + b with 32-bit numbers does not overflow 64 bits
        self._a = rng.integers(1, 2**32, (_HASHES, 1), dtype=np.uint64)
        self._b = rng.integers(0, 2**32, (_HASHES, 1), dtype=np.uint64)
        self._signatures = np.empty((256, _HASHES), np.uint32)
        self._names: list[int] = []

    def similar(self, text: str) -> tuple[int, float] | None:
        """Name and estimated similarity of the most similar text; ``None`` if all are below the threshold."""
        if not self._names:
            return None
        similarities = (self._signatures[: len(self._names)] == self._signature(text)).mean(axis=1)
        best = int(similarities.argmax())
        return (
            (self._names[best], float(similarities[best])) if similarities[best] >= self.criterion.threshold else None
        )

    def add(self, name: int, text: str) -> None:
        """Add a text under a name."""
        if len(self._names) == len(self._signatures):
            self._signatures = np.concatenate([self._signatures, np.empty_like(self._signatures)])
        self._signatures[len(self._names)] = self._signature(text)
        self._names.append(name)

    def _signature(self, text: str) -> np.ndarray:
        """``(128,)`` uint32."""
        words, size = _WORD.findall(text.lower()), self.criterion.words
        grams = {" ".join(words[i : i + size]) for i in range(max(1, len(words) - size + 1))}
        digests = (hashlib.blake2b(gram.encode("utf-8", "surrogatepass"), digest_size=4).digest() for gram in grams)
        values = np.frombuffer(b"".join(digests), np.uint32).astype(np.uint64)
        return ((self._a * values + self._b) % _PRIME).astype(np.uint32).min(axis=1)
