import json

import pytest
from judged_benchmarks import Painter, Planned, scores_of

from nextgpt_pl.evaluation.benchmarks import Wise
from nextgpt_pl.evaluation.judges import ExactJudge

STAR = "a large pink star in the center on a white background"
NUMBERS = {1: (2, 1, 0), 400: (1, 1, 1), 401: (2, 2, 2), 600: (0, 2, 2)}
NUMBERS |= {701: (1, 0, 0), 850: (2, 0, 2), 1000: (0, 0, 0)}


def _root(tmp_path, numbers=NUMBERS):
    rows = [{"prompt_id": n, "Prompt": f"made up {n}", "Explanation": STAR, "Subcategory": "x"} for n in numbers]
    root = tmp_path / "wise"
    root.mkdir()
    (root / "cultural_common_sense.json").write_text(json.dumps([row for row in rows if row["prompt_id"] <= 400]))
    (root / "spatio-temporal_reasoning.json").write_text("[]")
    (root / "natural_science.json").write_text(json.dumps([row for row in rows if row["prompt_id"] > 400], indent=4))
    return root


def _judge():
    names = ("consistency", "realism", "aesthetic quality")

    def answer(inquiry):
        number = int(inquiry.text.split("made up ")[1].split("\n")[0])
        return dict(zip(names, NUMBERS[number], strict=True))

    return Planned(answer)


def _painter(numbers=NUMBERS):
    return Painter({f"made up {number}": STAR for number in numbers})


def test_the_overall_score_is_weighted(tmp_path):
    found = scores_of(Wise(_root(tmp_path), [_judge()]), tmp_path, _painter())
    culture = ((0.7 * 2 + 0.2 * 1) / 2 + (0.7 + 0.2 + 0.1) / 2) / 2
    expected = {"culture": culture, "time": 1.0, "space": 0.3, "biology": 0.35, "physics": 0.8, "chemistry": 0.0}
    for name, value in expected.items():
        assert found[name] == pytest.approx(value), name
    overall = 0.4 * culture + 0.167 * 1 + 0.133 * 0.3 + 0.1 * 0.35 + 0.1 * 0.8
    assert found["overall"] == pytest.approx(overall)


def test_without_all_categories_there_is_no_overall_score(tmp_path):
    found = scores_of(Wise(_root(tmp_path, [1, 401]), [_judge()]), tmp_path, _painter())
    assert "overall" not in found
    assert found["time"] == pytest.approx(1.0)


def test_the_exact_judge_compares_with_the_explanation(tmp_path):
    says = {"made up 1": STAR, "made up 401": STAR.replace("pink", "red")}
    found = scores_of(Wise(_root(tmp_path, [1, 401]), [ExactJudge()]), tmp_path, Painter(says))
    assert (found["culture"], found["time"]) == (pytest.approx(1.0), 0.0)


def test_a_number_that_is_none_is_named(tmp_path):
    (item,) = Wise(_root(tmp_path, [1001]), [_judge()]).items()
    assert "prompt_id=1001" in item.fault
