"""Caption scores as pure functions: CIDEr-D, BLEU and ROUGE-L of tokenised captions.

CIDEr-D after Vedantam et al. 2015, BLEU after Papineni et al. 2002, ROUGE-L after Lin 2004, each in the variant that
COCO's caption evaluation uses; the scores equal those of pycocoevalcap. Captions are tokenised as there: lower case,
Penn Treebank contractions, no punctuation.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np

from nextgpt_pl.metrics.tokens import Tokens

_ORDERS = 4
_SIGMA = 6.0  # of CIDEr-D's length penalty
_BETA = 1.2  # of ROUGE-L's F score


def _checked(candidates: Sequence[Tokens], references: Sequence[Sequence[Tokens]]) -> None:
    if len(candidates) != len(references):
        raise ValueError(f"{len(candidates)} candidates, but references for {len(references)} items")
    for index, refs in enumerate(references):
        if not refs:
            raise ValueError(f"item {index} has no reference caption")


class _NGrams:
    """All n-grams of a list of captions as integers, per order."""

    def __init__(self, captions: Sequence[Tokens]) -> None:
        lengths = np.array([len(c) for c in captions], dtype=np.int64)
        vocabulary: dict[str, int] = {}
        self.tokens = np.array([vocabulary.setdefault(t, len(vocabulary)) for c in captions for t in c], dtype=np.int64)
        self.caption = np.repeat(np.arange(len(captions)), lengths)
        # number of tokens from each position to the caption's end
        ends = np.repeat(np.cumsum(lengths), lengths)
        self.left = ends - np.arange(len(self.tokens))
        self.size = len(vocabulary)

    def orders(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Per order: caption index and n-gram index of each occurrence."""
        grams_by_order, keys = [], self.tokens
        for n in range(1, _ORDERS + 1):
            if n > 1:
                following = np.roll(self.tokens, -(n - 1))
                keys = np.unique(keys * self.size + following, return_inverse=True)[1]
            valid = self.left >= n
            grams_by_order.append((self.caption[valid], keys[valid]))
        return grams_by_order


def cider_d(candidates: Sequence[Tokens], references: Sequence[Sequence[Tokens]]) -> np.ndarray:
    """CIDEr-D of each item, ``(N,)`` float64; their mean is the corpus score.

    Document frequencies are those of the given references, so an item's score depends on the other items.

    Raises:
        ValueError: lengths differ, an item has no reference, or there are fewer than two items.

    """
    _checked(candidates, references)
    count = len(candidates)
    if count < 2:
        raise ValueError(f"CIDEr-D needs at least 2 items for its document frequencies, got {count}")
    captions = [*candidates, *(r for refs in references for r in refs)]
    # item of each reference, and number of references per item
    item = np.repeat(np.arange(count), [len(refs) for refs in references])
    lengths = np.array([max(0, len(c) - 1) for c in captions], dtype=np.float64)
    penalty = np.exp(-np.square(lengths[item] - lengths[count:]) / (2 * _SIGMA**2))
    total = np.zeros(len(item))
    for which, gram in _NGrams(captions).orders():
        total += _similarity(which, gram, item, count) * penalty
    per_item = np.bincount(item, total / _ORDERS, count) / np.bincount(item, minlength=count)
    return 10.0 * per_item


def _similarity(which: np.ndarray, gram: np.ndarray, item: np.ndarray, count: int) -> np.ndarray:
    """Clipped cosine of TF-IDF vectors of one order, for each reference against its candidate."""
    if not len(gram):
        return np.zeros(len(item))
    grams = int(gram.max()) + 1
    pairs, frequency = np.unique(which * grams + gram, return_counts=True)
    caption, gram = pairs // grams, pairs % grams
    of_reference = caption >= count
    in_items = np.unique(item[caption[of_reference] - count] * grams + gram[of_reference]) % grams
    weight = math.log(count) - np.log(np.maximum(1, np.bincount(in_items, minlength=grams)))
    value = frequency * weight[gram]
    norm = np.sqrt(np.bincount(caption, np.square(value), count + len(item)))
    # each n-gram of a reference, looked up in the candidate of its item
    reference = caption[of_reference] - count
    keys = item[reference] * grams + gram[of_reference]
    position = np.minimum(np.searchsorted(pairs, keys), len(pairs) - 1)
    candidate_value = np.where(pairs[position] == keys, value[position], 0.0)
    reference_value = value[of_reference]
    dot = np.bincount(reference, np.minimum(candidate_value, reference_value) * reference_value, len(item))
    norms = norm[item] * norm[count:]
    # bincount of an empty array returns integers
    return np.divide(dot, norms, out=np.zeros(len(dot)), where=norms > 0)


def bleu(candidates: Sequence[Tokens], references: Sequence[Sequence[Tokens]]) -> list[float]:
    """BLEU-1 to BLEU-4 of the corpus; uses the closest reference length, the shorter one in a tie.

    >>> [round(score, 3) for score in bleu([["a", "red", "dog", "runs"]], [[["a", "red", "cat", "runs"]]])][:2]
    [0.75, 0.5]

    """
    return bleu_of(bleu_counts(candidates, references).sum(0))


def bleu_counts(candidates: Sequence[Tokens], references: Sequence[Sequence[Tokens]]) -> np.ndarray:
    """What BLEU sums over the items of a corpus, ``(N, 10)`` int64.

    Columns: length of the candidate, length of the closest reference, then per order the candidate's n-grams that a
    reference has, and per order all n-grams of the candidate.

    Raises:
        ValueError: lengths differ, or an item has no reference.

    """
    _checked(candidates, references)
    counts = np.zeros((len(candidates), 2 + 2 * _ORDERS), np.int64)
    for row, candidate, refs in zip(counts, candidates, references, strict=True):
        row[0] = len(candidate)
        row[1] = min((abs(len(r) - len(candidate)), len(r)) for r in refs)[1]
        for n in range(1, _ORDERS + 1):
            max_counts: Counter[tuple[str, ...]] = Counter()
            for reference in refs:
                max_counts |= _count(reference, n)
            row[1 + n] = (_count(candidate, n) & max_counts).total()
            row[1 + _ORDERS + n] = max(0, len(candidate) - n + 1)
    return counts


def bleu_of(counts: np.ndarray) -> list[float]:
    """BLEU-1 to BLEU-4 of a corpus, from the sum ``(10,)`` of the :func:`bleu_counts` of its items."""
    candidate_length, reference_length, *of_orders = counts.tolist()
    matched, possible = of_orders[:_ORDERS], of_orders[_ORDERS:]
    brevity = min(1.0, math.exp(1 - reference_length / candidate_length)) if candidate_length else 0.0
    scores, product = [], 1.0
    for n in range(_ORDERS):
        product *= (matched[n] + 1e-15) / (possible[n] + 1e-9)
        scores.append(brevity * product ** (1 / (n + 1)))
    return scores


def _count(tokens: Tokens, n: int) -> Counter[tuple[str, ...]]:
    return Counter(zip(*(tokens[i:] for i in range(n)), strict=False))


def rouge_l(candidates: Sequence[Tokens], references: Sequence[Sequence[Tokens]]) -> np.ndarray:
    """ROUGE-L of each item: F score of the best precision and the best recall of the longest common subsequence.

    >>> rouge_l([["a", "dog", "runs", "fast"]], [[["a", "cat", "runs", "fast"]]]).round(3).tolist()
    [0.75]

    """
    _checked(candidates, references)
    scores = []
    for candidate, refs in zip(candidates, references, strict=True):
        common = [_longest_common(candidate, r) for r in refs]
        precision = max(common) / len(candidate) if candidate else 0.0
        recall = max(c / len(r) if r else 0.0 for c, r in zip(common, refs, strict=True))
        both = precision and recall
        weighted = (1 + _BETA**2) * precision * recall / (recall + _BETA**2 * precision) if both else 0.0
        scores.append(weighted)
    return np.array(scores)


def _longest_common(first: Tokens, second: Tokens) -> int:
    row = [0] * (len(second) + 1)
    for token in first:
        diagonal = 0
        for j, other in enumerate(second, start=1):
            diagonal, row[j] = row[j], diagonal + 1 if token == other else max(row[j], row[j - 1])
    return row[-1]
