import json
import re

import pytest

from nextgpt_pl.__main__ import main
from nextgpt_pl.errors import UserError
from nextgpt_pl.verbs.score import RESULTS, table_rows
from nextgpt_pl.verbs.tour import tour


def test_a_missing_yaml_is_said(tmp_path):
    with pytest.raises(UserError, match=r"enc_align\.yaml: no such file; --experiments names another folder"):
        tour(tmp_path / "out", experiments=tmp_path)


@pytest.mark.slow
def test_a_failing_stage_is_said(tmp_path):
    (tmp_path / "enc_align.yaml").write_text("nonsense: 1\n")
    with pytest.raises(UserError, match="stage enc_align failed with exit code 2"):
        tour(tmp_path / "out", experiments=tmp_path)


@pytest.mark.long
def test_the_whole_tour_makes_a_page(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    out = tmp_path / "tour"
    assert main(["tour", "--out", str(out), "--max_steps", "2", "--count", "2", "--replies", "4"]) == 0
    page = (out / "index.html").read_text()
    for words in ("Stage 1: encoder alignment", "Scores", "image-&gt;video", "score table"):
        assert words in page
    assert not re.search(r"&lt;/?(h\d|p|a|b|div|img)\b", page)  # no HTML of ours is escaped
    (scored,) = out.glob(f"instruct/*/{RESULTS}")
    assert ("4 replies", "malformed signal spans, 0", "0") in table_rows(json.loads(scored.read_text()))
    assert (out / page.split("href='")[1].split("'")[0]).is_file()
    for source in page.split("src='")[1:]:
        assert (out / source.split("'")[0]).is_file()
    manifests = [json.loads(f.read_text())["stages"] for f in sorted(out.glob("instruct/*/adapter/manifest.json"))]
    assert manifests == [["EncoderAlignment", "DecoderAlignment", "InstructionTuning"]]
