import json
from pathlib import Path

import pytest
from judged_benchmarks import Painter, Planned, scores_of
from two_ranks import run_as_two

from nextgpt_pl.errors import UserError
from nextgpt_pl.evaluation import records, run
from nextgpt_pl.evaluation.benchmarks import GenEval
from nextgpt_pl.evaluation.judges import ExactJudge, kept

RING = "a large red ring in the center on a black background"
BOTH = "a large red ring to the left of a large blue star on a black background"
TWINS = "a large red circle to the left of a large blue circle on a black background"
ROWS = [
    {"tag": "single_object", "include": [{"class": "ring", "count": 1}], "prompt": RING},
    {"tag": "single_object", "include": [{"class": "star", "count": 1}], "prompt": RING.replace("ring", "star")},
    {
        "tag": "position",
        "include": [{"class": "star", "count": 1}, {"class": "ring", "count": 1, "position": ["left of", 0]}],
        "prompt": BOTH,
    },
    {
        "tag": "counting",
        "include": [{"class": "circle", "count": 2}],
        "exclude": [{"class": "circle", "count": 3}],
        "prompt": TWINS,
    },
]


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "geneval"
    folder.mkdir()
    (folder / "evaluation_metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return folder


def test_scores_are_means_by_tag_and_their_mean(root, tmp_path):
    # the star is drawn as a ring, and the counted circles once only
    says = {ROWS[1]["prompt"]: RING, TWINS: RING.replace("ring", "circle")}
    found = scores_of(GenEval(root, [ExactJudge()]), tmp_path, Painter(says))
    assert found["single_object"] == 0.5
    assert found["position"] == 1.0
    assert found["counting"] == 0.0
    assert found["overall"] == pytest.approx((0.5 + 1 + 0) / 3)
    assert found["replies without an answer"] == found["unparsable judgements"] == 0


def test_each_saved_score_names_its_judge(root, tmp_path):
    task = GenEval(root, [ExactJudge(), Planned(lambda inquiry: {"yes": 1.0})])
    scores_of(task, tmp_path)
    names = json.loads((tmp_path / run.SCORES).read_text())["tasks"]["GenEval"]["scores"]
    assert {name.rsplit("[", 1)[1] for name in names} == {"exact judge 1]", "planned judge 3]"}
    assert names["overall [planned judge 3]"]["count"] == 4


def test_missing_and_unparsable_answers_count_as_wrong_and_are_counted(root, tmp_path):
    judge = Planned(lambda inquiry: "I cannot tell" if inquiry.caption == BOTH else {"yes": 1.0})
    found = scores_of(GenEval(root, [judge]), tmp_path, Painter({TWINS: None}))
    assert (found["single_object"], found["position"], found["counting"]) == (1.0, 0.0, 0.0)
    assert (found["replies without an answer"], found["unparsable judgements"]) == (1, 1)
    assert len(judge.asked) == 3


def test_no_question_is_asked_twice_and_failures_are_asked_again(root, tmp_path):
    broken = Planned(lambda inquiry: ValueError("no connection") if inquiry.caption == BOTH else {"yes": 1.0})
    task = GenEval(root, [broken])
    run.predict(Painter(), [task], tmp_path, temperature=0.0, seed=0)
    failed = run.score([task], tmp_path)["tasks"]["GenEval"]["failed"]
    assert failed["JudgedScore"] == "planned judge 3: 1 of 4 questions are not answered: no connection"
    again = Planned(lambda inquiry: {"yes": 0.0})
    assert scores_of(GenEval(root, [again]), tmp_path)["overall"] == pytest.approx((1 + 0 + 1) / 3)
    assert [inquiry.caption for inquiry in again.asked] == [BOTH]
    assert len((tmp_path / kept.FILE).read_text().splitlines()) == 4


def test_several_replies_per_prompt(root, tmp_path):
    task = GenEval(root, [ExactJudge()], samples=3)
    scores_of(task, tmp_path)
    keys = [item.key for item in task.items()]
    assert keys[:4] == ["00000/0", "00000/1", "00000/2", "00001/0"]
    assert len(keys) == 12


def test_answers_are_kept_while_further_questions_are_asked(root, tmp_path, monkeypatch):
    monkeypatch.setattr("nextgpt_pl.evaluation.benchmarks.judged_score._BLOCK", 2)

    def answer(inquiry):
        if inquiry.caption == BOTH:
            raise KeyboardInterrupt
        return {"yes": 1.0}

    task = GenEval(root, [Planned(answer)])
    run.predict(Painter(), [task], tmp_path, temperature=0.0, seed=0)
    with pytest.raises(KeyboardInterrupt):
        run.score([task], tmp_path)
    assert len((tmp_path / kept.FILE).read_text().splitlines()) == 2
    broken = Planned(lambda inquiry: ValueError("no connection"))
    (score,) = GenEval(root, [broken]).scores
    with pytest.raises(UserError, match="2 of 2 questions are not answered: no connection"):
        score(records.read(tmp_path), tmp_path, root)


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({"tag": "x", "prompt": "a ring"}, "at least one object"),
        ({"tag": "x", "prompt": "a ring", "include": [{"class": "ring"}]}, "'class' and 'count'"),
        ({"tag": "x", "prompt": "a ring", "include": [{"class": "ring", "count": 0}]}, "count=0"),
        ({"tag": "x", "include": [{"class": "ring", "count": 1, "position": ["above", 0]}], "prompt": ""}, "position="),
        ({"include": [{"class": "ring", "count": 1}], "prompt": "a ring"}, "tag"),
        (3, "an object is expected"),
    ],
)
def test_a_wrong_row_is_named(row, why, tmp_path):
    (tmp_path / "evaluation_metadata.jsonl").write_text(json.dumps(ROWS[0]) + "\n" + json.dumps(row) + "\n")
    right, broken = GenEval(tmp_path, [ExactJudge()]).items()
    assert broken.key == "evaluation_metadata.jsonl, row 1"
    assert why in broken.fault
    assert right.fault is None


def test_arguments(tmp_path):
    assert "evaluation_metadata.jsonl" in GenEval(tmp_path, [ExactJudge()]).missing()[0]
    with pytest.raises(UserError, match="judges or scores are expected"):
        GenEval(tmp_path)
    with pytest.raises(UserError, match=r"prompt='Draw\.'"):
        GenEval(tmp_path, [ExactJudge()], prompt="Draw.")
    with pytest.raises(UserError, match="samples=0"):
        GenEval(tmp_path, [ExactJudge()], samples=0)


_TWO = """
task = GenEval(folder_of(sys.argv[1], "geneval"), [Planned(right)])
found = run.score([task], folder_of(sys.argv[1], "out"), shared=True)
scores = json.dumps([found, len(task.scores[0].judge.asked)])
folder_of(sys.argv[1], f"rank{rank}.json").write_text(scores)
"""
_IMPORTS = """
import json
from pathlib import Path
from judged_benchmarks import Planned
from nextgpt_pl.evaluation import run
from nextgpt_pl.evaluation.benchmarks import GenEval


def folder_of(*parts):
    return Path(*parts)


def right(inquiry):
    return {"yes": float("circle" not in inquiry.caption)}
"""


@pytest.mark.slow
def test_two_ranks_ask_half_of_the_questions_each_and_agree_with_one(root, tmp_path):
    task = GenEval(root, [Planned(lambda inquiry: {"yes": float("circle" not in inquiry.caption)})])
    (tmp_path / "out").mkdir()
    run.predict(Painter(), [task], tmp_path / "out", temperature=0.0, seed=0)
    run_as_two(_IMPORTS, _TWO, tmp_path, paths=[Path.cwd(), Path.cwd() / "tests" / "helpers"])
    ranks = [json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in (0, 1)]
    assert [asked for _, asked in ranks] == [2, 2]
    lines = (tmp_path / "out" / kept.FILE).read_text().splitlines()
    assert len(lines) == 4
    (tmp_path / "out" / kept.FILE).unlink()
    one = run.score([task], tmp_path / "out")
    assert ranks[0][0] == ranks[1][0] == one
