"""VQA accuracy, after Antol et al. 2015, with the answer normalisation of its evaluation code."""

from __future__ import annotations

import re
from collections.abc import Sequence

_ARTICLES = frozenset(("a", "an", "the"))
_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_NUMBERS = {"none": "0"} | {word: str(number) for number, word in enumerate(_WORDS)}
_AGREEING = 3  # number of matching annotators for full accuracy
_BETWEEN_DIGITS = re.compile(r"(?<=\d)[,](?=\d)")
_PUNCTUATION = re.compile(r"(?!(?<=\d)\.(?=\d))[^\w\s'%$:]")


def normalise(answer: str) -> str:
    """Lower case, digits for number words, no articles, no punctuation but within numbers.

    >>> normalise("The two Dogs, I think.")
    '2 dogs i think'
    """
    text = _PUNCTUATION.sub(" ", _BETWEEN_DIGITS.sub("", answer.lower().replace("\n", " ")))
    words = (_NUMBERS.get(word, word) for word in text.split())
    return " ".join(word for word in words if word not in _ARTICLES)


def vqa_accuracy(answer: str, references: Sequence[str]) -> float:
    """In [0, 1]: the mean, over the sets that leave one annotator out, of matches / 3, at most 1.

    With fewer than three annotators, one match gives full accuracy.

    Raises:
        ValueError: there is no reference.

    >>> round(vqa_accuracy("Two", ["2", "two", "three", "three"]), 2)
    0.5

    """
    if not references:
        raise ValueError("no reference answer")
    matches = [normalise(answer) == normalise(reference) for reference in references]
    if len(matches) < _AGREEING:
        return float(any(matches))
    total = sum(matches)
    return sum(min(1.0, (total - match) / _AGREEING) for match in matches) / len(matches)
