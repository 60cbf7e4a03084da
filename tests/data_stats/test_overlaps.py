import random

import numpy as np

from nextgpt_pl.data_stats.overlaps import first_places, most_frequent, near_duplicates
from nextgpt_pl.utils.minhash import signature


def _signatures(texts):
    return np.array([signature(text).astype(np.uint8) for text in texts])


def _hashes(texts):
    known = {}
    return np.array([known.setdefault(text, len(known) + 1) for text in texts], np.uint64)


def test_near_duplicates_are_those_above_the_threshold():
    """Of 200 texts each has a copy of known similarity; the exact Jaccard similarity decides."""
    rng = random.Random(0)
    texts, similarities = [], []
    for _ in range(200):
        words = [str(rng.randrange(10**6)) for _ in range(100)]
        changed = rng.choice((0, 1, 2, 20))
        # a change at the end changes fewer trigrams
        other = words[: 100 - changed] + [str(rng.randrange(10**6)) for _ in range(changed)]
        first, second = ({tuple(w[i : i + 3]) for i in range(98)} for w in (words, other))
        texts += [" ".join(words), " ".join(other)]
        similarities.append((changed, len(first & second) / len(first | second)))
    found = {tuple(pair) for pair in near_duplicates(_hashes(texts), _signatures(texts)).tolist()}
    for number, (changed, similarity) in enumerate(similarities):
        pair = (2 * number + 1, 2 * number)
        if changed == 0:
            assert pair not in found  # equal texts are no near-duplicates
        elif similarity > 0.95:
            assert pair in found
        elif similarity < 0.69:
            assert pair not in found
        found.discard(pair)
    assert not found
    assert {changed for changed, similarity in similarities if similarity > 0.95} >= {1}
    assert any(similarity < 0.69 for _, similarity in similarities)


def test_of_equal_texts_the_first_is_compared_and_the_earlier_text_is_named():
    base = " ".join(f"w{i}" for i in range(80))
    texts = ["other words here", base, base, base + " x", "Other, words here!", base + " x"]
    pairs = near_duplicates(_hashes(texts), _signatures(texts)).tolist()
    assert pairs == [[3, 1], [4, 0]]
    assert near_duplicates(np.empty(0, np.uint64), np.empty((0, 128), np.uint8)).shape == (0, 2)


def test_frequencies():
    hashes = np.array([7, 3, 7, 9, 3, 7, 1], np.uint64)
    assert first_places(hashes).tolist() == [0, 1, 3, 6]
    assert most_frequent(hashes, 5) == [(0, 3), (1, 2)]
    assert most_frequent(hashes, 1) == [(0, 3)]
