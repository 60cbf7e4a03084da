import json

import numpy as np
import pytest

from nextgpt_pl.metrics.captions import bleu, bleu_counts, bleu_of, cider_d, rouge_l
from nextgpt_pl.metrics.tokens import tokenize


@pytest.fixture
def golden(golden_folder):
    return json.loads((golden_folder / "caption.json").read_text())


def _tokens(golden):
    candidates = [golden["tok_candidates"][i][0].split() for i in golden["ids"]]
    return candidates, [[r.split() for r in golden["tok_references"][i]] for i in golden["ids"]]


def test_tokens_are_those_of_the_penn_treebank_tokenizer(golden):
    for i in golden["ids"]:
        texts = [golden["candidates"][i], *golden["references"][i]]
        expected = [*golden["tok_candidates"][i], *golden["tok_references"][i]]
        assert [" ".join(tokenize(t)) for t in texts] == expected


def test_scores_are_those_of_pycocoevalcap(golden):
    candidates, references = _tokens(golden)
    per_image = golden["per_image"]
    ours = cider_d(candidates, references)
    np.testing.assert_allclose(ours, per_image["CIDEr-D"], atol=1e-6)
    assert ours.mean() == pytest.approx(golden["scores"]["CIDEr-D"], abs=1e-6)
    np.testing.assert_allclose(rouge_l(candidates, references), per_image["ROUGE-L"], atol=1e-6)
    np.testing.assert_allclose(bleu(candidates, references), [golden["scores"][f"BLEU-{n}"] for n in (1, 2, 3, 4)])
    for index in range(len(candidates)):
        alone = bleu(candidates[index : index + 1], references[index : index + 1])
        np.testing.assert_allclose(alone, [per_image[f"BLEU-{n}"][index] for n in (1, 2, 3, 4)], atol=1e-6)


def test_bleu_of_resampled_items_comes_from_their_counts(golden):
    candidates, references = _tokens(golden)
    counts = bleu_counts(candidates, references)
    for seed in range(5):
        chosen = np.random.default_rng(seed).integers(0, len(candidates), len(candidates))
        expected = bleu([candidates[i] for i in chosen], [references[i] for i in chosen])
        assert bleu_of(counts[chosen].sum(0)) == expected
    assert bleu_of(bleu_counts([[]], [[["a"]]]).sum(0)) == [0.0] * 4


def test_a_perfect_caption_scores_best_and_an_empty_one_nothing():
    references = [[["a", "b", "c", "d", "e"]], [["f", "g", "h", "i", "j"]], [["k", "l", "m", "n", "o"]]]
    scores = cider_d([["a", "b", "c", "d", "e"], [], ["a", "b", "c", "d", "e"]], references)
    assert scores[0] == pytest.approx(10.0)
    assert scores[1] == scores[2] == 0.0


def test_long_repetition_does_not_pay():
    references = [[["a", "b", "c", "d"]], [["e", "f", "g", "h"]]]
    good, repeated = (cider_d([c.split(), []], references)[0] for c in ("a b c d", "a b c d a b c d a b c d"))
    assert repeated < good


def test_mistakes_are_named():
    with pytest.raises(ValueError, match="at least 2 items"):
        cider_d([["a"]], [[["a"]]])
    with pytest.raises(ValueError, match="1 candidates, but references for 2 items"):
        cider_d([["a"]], [[["a"]], [["b"]]])
    with pytest.raises(ValueError, match="item 1 has no reference"):
        bleu([["a"], ["b"]], [[["a"]], []])
