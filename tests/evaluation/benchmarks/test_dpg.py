import csv

import pytest
from judged_benchmarks import Painter, Planned, scores_of

from nextgpt_pl.evaluation.benchmarks import DpgBench
from nextgpt_pl.evaluation.judges import ExactJudge

PROMPT = "a large red ring to the left of a large blue star on a black background"
STAR = "a small pink star near the top on a white background"
COLUMNS = ("item_id", "text", "keywords", "proposition_id", "dependency", "category_broad", "category_detailed")
COLUMNS += ("tuple", "question_natural_language")
QUESTIONS = [
    ("made0", 1, "0", "entity - whole (ring)", "Is there a ring?"),
    ("made0", 2, "0", "entity - whole (star)", "Is there a star?"),
    ("made0", 3, "1", "attribute - color (ring, red)", "Is the ring red?"),
    ("made0", 4, "1, 2", "relation - spatial (ring, star, left of)", "Is the ring left of the star?"),
    ("made0", 5, "4", "global (black background)", "Is the background black?"),
    ("made1", 1, "0", "entity - whole (star)", "Is there a star?"),
    ("made1", 2, "1", "attribute - size (star, small)", "Is the star small?"),
]


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "dpg_bench"
    (folder / "prompts").mkdir(parents=True)
    (folder / "prompts" / "made0.txt").write_text(PROMPT + "\n")
    with (folder / "dpg_bench.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(COLUMNS)
        for item, number, parents, proposition, question in QUESTIONS:
            text = "not used" if item == "made0" else STAR
            table.writerow([item, text, "", number, parents, "entity", "whole", proposition, question])
    return folder


def test_a_question_counts_only_if_what_it_depends_on_is_a_yes(root, tmp_path):
    # the star is missing, so that question 4 is no, and question 5 counts as no, since it depends on 4
    says = {PROMPT: "a large red ring in the center on a black background"}
    found = scores_of(DpgBench(root, [ExactJudge()]), tmp_path, Painter(says))
    assert found["DPG-Bench score"] == pytest.approx(100 * (2 / 5 + 2 / 2) / 2)
    assert found["entity"] == found["entity - whole"] == pytest.approx(100 * 2 / 3)
    assert found["attribute"] == 100
    assert found["relation"] == 0
    # categories take the answers as they are
    assert found["global"] == 100


def test_a_parent_that_is_not_a_yes_zeroes_its_children_only(root, tmp_path):
    judge = Planned(lambda inquiry: {"yes": float(inquiry.text != "Is there a ring?")})
    found = scores_of(DpgBench(root, [judge]), tmp_path)
    assert found["DPG-Bench score"] == pytest.approx(100 * (1 / 5 + 2 / 2) / 2)
    assert found["attribute - color"] == 100


def test_everything_right_and_no_image_at_all(root, tmp_path):
    assert scores_of(DpgBench(root, [ExactJudge()]), tmp_path / "right")["DPG-Bench score"] == 100
    found = scores_of(DpgBench(root, [ExactJudge()]), tmp_path / "none", Painter({PROMPT: None}))
    assert found["DPG-Bench score"] == 50
    assert found["replies without an answer"] == 1


def test_prompts_are_those_of_the_files(root):
    first, second = DpgBench(root, [ExactJudge()], prompt="Draw {prompt}.").items()
    assert first.messages[0]["content"][0]["text"] == f"Draw {PROMPT}."
    assert second.references == (STAR,)
    assert (first.key, second.key) == ("made0", "made1")


@pytest.mark.parametrize(
    ("old", "new", "why"), [('"1, 2"', "9", "depends on 9"), (",3,1,", ",3,one,", "whole numbers")]
)
def test_wrong_dependencies_are_named(old, new, why, root):
    file = root / "dpg_bench.csv"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))
    faults = [item.fault for item in DpgBench(root, [ExactJudge()]).items() if item.fault]
    assert any(why in fault for fault in faults)
