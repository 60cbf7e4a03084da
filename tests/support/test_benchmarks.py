"""Published benchmarks: their files are read, and replies are scored by a judge whose name is part of every score.

``tests/evaluation/benchmarks`` compares the scores with those of the published formulas.
"""

import json

import pytest
from benchmark_files import BENCHMARKS, PROMPTS
from judged_benchmarks import Painter, Planned, scores_of

from nextgpt_pl.evaluation import run
from nextgpt_pl.evaluation.tasks import Item


def support(column):
    """A cell of each benchmark."""
    return lambda test: pytest.mark.support("benchmarks", column)(pytest.mark.parametrize("name", BENCHMARKS)(test))


def _best(inquiry):
    return {scale.name: scale.high for scale in inquiry.scales}


def _task(name, folder, answer=_best):
    BENCHMARKS[name].write(folder)
    return BENCHMARKS[name].task(folder, [Planned(answer)])


@support("published files")
def test_its_files_are_read(name, tmp_path):
    task = _task(name, tmp_path)
    assert not task.missing()
    items = list(task.items())
    assert all(isinstance(item, Item) and item.fault is None for item in items)
    said = [part["text"] for item in items for part in item.messages[-1]["content"] if part["type"] == "text"]
    assert set(said) == set(PROMPTS)
    assert len({item.key for item in items}) == len(items) >= 2


@support("best and worst score")
def test_right_replies_get_the_best_score_and_empty_ones_the_worst(name, tmp_path):
    overall, (worst, best) = BENCHMARKS[name].overall, BENCHMARKS[name].bounds
    task = _task(name, tmp_path / "files")
    assert scores_of(task, tmp_path / "right")[overall] == pytest.approx(best)
    found = scores_of(task, tmp_path / "empty", Painter(dict.fromkeys(PROMPTS)))
    assert found[overall] == pytest.approx(worst)
    assert found["replies without an answer"] == len(list(task.items()))


@support("judge named with each score")
def test_every_score_names_its_judge(name, tmp_path):
    task = _task(name, tmp_path / "files")
    scores_of(task, tmp_path)
    scores = json.loads((tmp_path / run.SCORES).read_text())["tasks"][task.name]["scores"]
    assert scores
    assert all(score.endswith("[planned judge 3]") for score in scores)


@support("answers without numbers are counted")
def test_an_answer_without_numbers_is_counted(name, tmp_path):
    task = _task(name, tmp_path / "files", lambda inquiry: "no idea")
    found = scores_of(task, tmp_path)
    assert found[BENCHMARKS[name].overall] == pytest.approx(BENCHMARKS[name].bounds[0])
    assert found["unparsable judgements"] > 0
