import numpy as np
import pytest

from nextgpt_pl.errors import UserError
from nextgpt_pl.metrics import spice
from nextgpt_pl.metrics.captions import cider_d

CANDIDATES = [["a", "red", "ring"], ["a", "star"]]
REFERENCES = [[["a", "red", "ring"]], [["one", "blue", "star"], ["a", "star"]]]


@pytest.fixture
def parser(monkeypatch):
    """CoreNLP's jars are third-party files that are not here: stands for the program, and sees what it is given."""
    module = pytest.importorskip("pycocoevalcap.spice.spice")
    seen = {}

    class _Spice:
        def compute_score(self, truths, results):
            seen.update(truths=truths, results=results)
            return 0.0, [{"All": {"f": value}} for value in seen["values"]]

    monkeypatch.setattr(module, "Spice", _Spice)
    monkeypatch.setattr(spice, "missing_jars", list)
    seen["values"] = [0.75, 0.25]
    return seen


def test_spider_is_the_mean_of_spice_and_cider(parser):
    found, both = spice.spider(CANDIDATES, REFERENCES)
    assert found.tolist() == [0.75, 0.25]
    np.testing.assert_allclose(both, (found + cider_d(CANDIDATES, REFERENCES)) / 2)
    assert parser["results"] == {0: ["a red ring"], 1: ["a star"]}
    assert parser["truths"][1] == ["one blue star", "a star"]


def test_what_the_parser_could_make_nothing_of_is_an_error(parser):
    parser["values"] = [0.5, float("nan")]
    with pytest.raises(ValueError, match="nothing of 1 items, the first is number 1"):
        spice.spice(CANDIDATES, REFERENCES)
    with pytest.raises(ValueError, match="SPICE of 0 items"):
        spice.spice([], [])


def test_without_its_jars_the_message_says_where_they_belong():
    pytest.importorskip("pycocoevalcap")
    try:
        missing = spice.missing_jars()
    except UserError as error:
        pytest.skip(str(error))
    if not missing:
        pytest.skip("CoreNLP is installed")
    with pytest.raises(UserError, match=r"stanford-corenlp-3\.6\.0\.jar and .* belong in .*spice/lib"):
        spice.spice(CANDIDATES, REFERENCES)
