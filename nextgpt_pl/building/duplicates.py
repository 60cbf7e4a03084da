"""Near-duplicates of texts, found by MinHash signatures."""

from __future__ import annotations

import numpy as np

from nextgpt_pl.errors import UserError, at_least
from nextgpt_pl.utils.minhash import HASHES, signature


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
        self._signatures = np.empty((256, HASHES), np.uint32)
        self._names: list[int] = []

    def similar(self, text: str) -> tuple[int, float] | None:
        """Name and estimated similarity of the most similar text; ``None`` if all are below the threshold."""
        if not self._names:
            return None
        similarities = (self._signatures[: len(self._names)] == signature(text, self.criterion.words)).mean(axis=1)
        best = int(similarities.argmax())
        return (
            (self._names[best], float(similarities[best])) if similarities[best] >= self.criterion.threshold else None
        )

    def add(self, name: int, text: str) -> None:
        """Add a text under a name."""
        if len(self._names) == len(self._signatures):
            self._signatures = np.concatenate([self._signatures, np.empty_like(self._signatures)])
        self._signatures[len(self._names)] = signature(text, self.criterion.words)
        self._names.append(name)
