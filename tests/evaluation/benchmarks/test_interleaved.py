import json
from random import Random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from judged_benchmarks import Painter, Planned, scores_of

from nextgpt_pl.evaluation.benchmarks import Mmie, UEval
from nextgpt_pl.media.writing import save_image
from nextgpt_pl.modality import Modality
from nextgpt_pl.pocket.judges.text import judge_text
from nextgpt_pl.pocket.world.render import render

STAR = "a large pink star in the center on a white background"


def _rubrics(*names):
    return [{"criterion": name, "tags": ["made up"]} for name in names]


@pytest.fixture
def ueval(tmp_path):
    rows = [
        ("1", "art", "open", _rubrics("text yes", "text no"), _rubrics("image yes")),
        ("2", "art", "closed", _rubrics("text yes"), _rubrics("image no", "image yes", "image no", "image no")),
        ("3", "life", "open", _rubrics("text no"), _rubrics("image yes")),
    ]
    names = ("id", "task_type", "question_type", "text_rubrics", "image_rubrics")
    table = [{**dict(zip(names, row, strict=True)), "prompt": f"made up {row[0]}"} for row in rows]
    root = tmp_path / "ueval"
    (root / "data").mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(table), root / "data" / "test-00000-of-00001.parquet")
    return root


def _met(inquiry):
    return {"yes": float(inquiry.text.endswith("yes"))}


def test_ueval_means_over_criteria_replies_and_task_types(ueval, tmp_path):
    judge = Planned(_met)
    found = scores_of(UEval(ueval, [judge]), tmp_path, Painter({f"made up {n}": STAR for n in (1, 2, 3)}))
    assert found["art, text"] == (0.5 + 1) / 2
    assert found["art, image"] == (1 + 0.25) / 2
    assert found["art, overall"] == (0.75 + 0.625) / 2
    assert found["life, overall"] == 0.5
    assert found["overall"] == pytest.approx((0.6875 + 0.5) / 2)
    assert found["text"] == pytest.approx((0.75 + 0) / 2)
    # the text is shown with the images of open questions only
    shown = {inquiry.text.split("\n")[0][-1]: "Here is" in inquiry.text for inquiry in judge.asked if inquiry.images}
    assert shown == {"1": True, "2": False, "3": True}


def test_ueval_without_text_and_image(ueval, tmp_path):
    judge = Planned(_met)
    found = scores_of(
        UEval(ueval, [judge]), tmp_path, Painter(dict.fromkeys(("made up 1", "made up 2"), None) | {"made up 3": STAR})
    )
    assert (found["art, overall"], found["life, image"]) == (0.0, 1.0)
    assert found["replies without an answer"] == 2
    assert len(judge.asked) == 2


def test_mmie_means_by_category(tmp_path):
    root = tmp_path / "mmie"
    (root / "images").mkdir(parents=True)
    save_image(render(judge_text(STAR, Modality.IMAGE), Random(2)), root / "images" / "0.png")
    question = [{"text": STAR, "image": "images/0.png"}, {"text": STAR, "image": None}]
    rows = [
        {"id": f"made-up-{category}-{n}", "question": question, "gt_answer": [{"text": f"right {n}", "image": None}]}
        for n, category in enumerate(("SA", "SA", "PBL", "MSR"))
    ]
    (root / "data.json").write_text(json.dumps([*rows, {"id": "other", "question": question}]))
    scores = {"right 0": 6, "right 1": 3, "right 2": 2}
    judge = Planned(lambda inquiry: {"score": scores[inquiry.caption]} if inquiry.caption in scores else "?")
    task = Mmie(root, [judge])
    found = scores_of(task, tmp_path, Painter())
    assert (found["SA"], found["PBL"], found["MSR"]) == (4.5, 2, 0)
    assert found["overall"] == pytest.approx((6 + 3 + 2 + 0) / 4)
    assert found["unparsable judgements"] == 1
    asked = judge.asked[3]
    assert asked.images[0] == root / "images" / "0.png"
    assert len(asked.images) == 2
    assert f"The question: {STAR} <image> {STAR}\nThe answer: Here is" in asked.text
    assert "The right answer: right 3" in asked.text
    assert "The right answer" not in judge.asked[0].text
    content = next(iter(task.items())).messages[0]["content"]
    assert [part["type"] for part in content] == ["text", "image", "text"]
    assert [item.fault for item in task.items()][-1].startswith("id='other'")
