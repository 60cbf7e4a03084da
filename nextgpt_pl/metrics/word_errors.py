"""Word error rate: word edits of a transcript over the number of words that were said, by jiwer (extra ``speech``)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from nextgpt_pl.errors import UserError

_NO_WORD = re.compile(r"[^\w\s']|_")


def words_of(text: str) -> list[str]:
    """The words of a text in lower case, without punctuation.

    >>> words_of("It's here: a RED ring.")
    ["it's", 'here', 'a', 'red', 'ring']

    """
    return _NO_WORD.sub(" ", text.lower()).split()


def word_edits(said: str, heard: str) -> tuple[int, int]:
    """Word edits (substitutions, deletions, insertions) that turn one text into another, and number of words said.

    Args:
        said: the true text.
        heard: the transcript.

    Raises:
        UserError: jiwer is not installed.

    >>> word_edits("a red ring", "the red, red ring!")
    (2, 3)

    """
    try:
        import jiwer
    except ImportError as error:
        raise UserError("word error rates need jiwer: pip install 'nextgpt-pl[speech]'") from error
    true_words, words = words_of(said), words_of(heard)
    if not true_words or not words:
        return max(len(true_words), len(words)), len(true_words)
    found = jiwer.process_words(" ".join(true_words), " ".join(words))
    return found.substitutions + found.deletions + found.insertions, len(true_words)


class WordErrorRate(Metric):
    """Word edits over words of all items; above 1 if a transcript has many words too many.

    Args:
        kwargs: arguments of :class:`torchmetrics.Metric`.

    >>> metric = WordErrorRate()
    >>> metric.update(["a red ring", "hello"], ["a red ring", "yellow"])
    >>> metric.compute()
    tensor(0.2500, dtype=torch.float64)

    """

    full_state_update = False
    edits: Tensor
    words: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        for name in ("edits", "words"):
            self.add_state(name, torch.tensor(0, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, said: Sequence[str], heard: Sequence[str]) -> None:
        """Add the true texts and transcripts of some items."""
        for edits, words in (word_edits(one, other) for one, other in zip(said, heard, strict=True)):
            self.edits += edits
            self.words += words

    def compute(self) -> Tensor:
        """The rate, a float64 scalar.

        Raises:
            ValueError: nothing was said.

        """
        if not self.words:
            raise ValueError("no words were said, so there is no word error rate")
        return self.edits.double() / self.words
