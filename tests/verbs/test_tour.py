import json

import pytest

from nextgpt_pl.__main__ import main
from nextgpt_pl.errors import UserError
from nextgpt_pl.evaluation import pocket_routes as routes
from nextgpt_pl.verbs.score import table_rows
from nextgpt_pl.verbs.tour import tour

RECORD = {
    "count": 10,
    "decoders": {"image": 0.8, "video": 0.5, "audio": 0.0},
    "routes": {
        **{r: {"items": 10, "all_right": 0.4, "kinds_right": 1.0} for r in routes.ROUTES},
        "text->text": {"items": 10, "all_right": 1.0, "kinds_right": 0.5},
    },
    "replies": 7,
    "malformed_spans": 0,
}


def test_the_table_sets_routes_against_the_decoders_own_score():
    rows = {row[0]: row[2] for row in table_rows(RECORD)}
    assert rows["text->image"] == "40.0%, 50.0% of the decoder's own 80.0%"
    assert "nan" in rows["text->audio"]
    assert rows["image->video"] == "40.0%"
    assert rows["asked for media"] == "100.0%"
    assert rows["not asked for media"] == "91.7%"
    assert rows["7 replies"] == "0"
    earlier = {**RECORD, "routes": {r: found for r, found in RECORD["routes"].items() if r != "brief"}}
    with pytest.raises(UserError, match=r"scores\.json has no route 'brief'.*the verb score adds it"):
        table_rows(earlier)


def test_a_missing_yaml_and_a_failing_stage_are_said(tmp_path):
    with pytest.raises(UserError, match=r"enc_align\.yaml: no such file; run the tour in the project's folder"):
        tour(tmp_path / "out", experiments=tmp_path)
    (tmp_path / "enc_align.yaml").write_text("nonsense: 1\n")
    with pytest.raises(UserError, match="the stage enc_align ended with exit code 2"):
        tour(tmp_path / "out", experiments=tmp_path)


@pytest.mark.slow
def test_the_whole_tour_makes_a_page(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    out = tmp_path / "tour"
    assert main(["tour", "--out", str(out), "--max_steps", "2", "--count", "2", "--replies", "4"]) == 0
    page = (out / "index.html").read_text()
    for words in ("Stage 1: encoder alignment", "Scores", "image-&gt;video", "score table"):
        assert words in page
    record = json.loads((out / "scores.json").read_text())
    assert record["malformed_spans"] == 0
    assert set(routes.ROUTES) <= set(record["routes"])
    for source in page.split("src='")[1:]:
        assert (out / source.split("'")[0]).is_file()
    manifests = [json.loads(f.read_text())["stages"] for f in sorted(out.glob("instruct/*/adapter/manifest.json"))]
    assert manifests == [["EncoderAlignment", "DecoderAlignment", "InstructionTuning"]]
