import random

import pytest

from nextgpt_pl.building import NearDuplicates
from nextgpt_pl.building.duplicates import SeenTexts
from nextgpt_pl.errors import UserError


def _jaccard(first, second, size=3):
    first, second = (
        {tuple(w[i : i + size]) for i in range(len(w) - size + 1)} for w in (first.split(), second.split())
    )
    return len(first & second) / len(first | second)


def test_the_estimated_similarity_is_near_the_exact_one():
    rng, errors = random.Random(0), []
    for share in range(1, 10):
        words = [str(rng.randrange(10**6)) for _ in range(300)]
        first = " ".join(words)
        second = " ".join(words[: 30 * share] + [str(rng.randrange(10**6)) for _ in range(300 - 30 * share)])
        texts = SeenTexts(NearDuplicates(threshold=1e-9))
        texts.add(7, first)
        name, similarity = texts.similar(second)
        assert name == 7
        errors.append(similarity - _jaccard(first, second))
    assert max(map(abs, errors)) < 0.15
    assert abs(sum(errors) / len(errors)) < 0.04


def test_case_and_punctuation_make_no_difference_and_one_changed_word_little():
    texts = SeenTexts(NearDuplicates(threshold=0.8))
    text = " ".join(f"word{i}" for i in range(100))
    texts.add(0, text)
    assert texts.similar(text.upper().replace(" ", ", ")) == (0, 1.0)
    assert texts.similar(text.replace("word50", "other"))[0] == 0
    assert texts.similar(" ".join(f"other{i}" for i in range(100))) is None


def test_the_most_similar_of_many_texts_is_found():
    texts = SeenTexts(NearDuplicates(threshold=0.5))
    for number in range(600):
        texts.add(number, " ".join(f"w{number}x{i}" for i in range(20)))
    assert texts.similar(" ".join(f"w417x{i}" for i in range(20))) == (417, 1.0)


def test_short_and_empty_texts_are_texts():
    texts = SeenTexts(NearDuplicates())
    assert texts.similar("hi") is None
    texts.add(0, "hi")
    texts.add(1, "")
    assert texts.similar("Hi!") == (0, 1.0)
    assert texts.similar("...") == (1, 1.0)
    assert texts.similar("hello") is None


@pytest.mark.parametrize("options", [{"threshold": 0.0}, {"threshold": float("nan")}, {"words": 0}])
def test_invalid_criteria_are_named(options):
    with pytest.raises(UserError, match=f"duplicates.{next(iter(options))}="):
        NearDuplicates(**options)
