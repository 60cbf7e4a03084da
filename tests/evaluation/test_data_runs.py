"""From data files to scores: media in tars and Parquet files, broken rows, rows that are left out, and the YAML."""

import json

import numpy as np
import published
import published_captions
import pytest
import yaml
from stand_ins import Means

from nextgpt_pl.datamodules import DataFiles
from nextgpt_pl.errors import UserError
from nextgpt_pl.evaluation import (
    Captioning,
    CaptionManifest,
    CaptionQuality,
    Generating,
    Similarity,
    VqaAccuracy,
    records,
    report,
    run,
)
from nextgpt_pl.media.reading import array_of
from nextgpt_pl.samples import ReplyPart
from nextgpt_pl.verbs import data, evaluation


class _Echo:
    """Stands for a model: reads all media, describes everything as a ball, and draws a grey that the seed gives."""

    def batch(self, conversations, *, seeds, modalities, **options):
        for messages in conversations:
            for part in messages[-1]["content"]:
                if part["type"] != "text":
                    array_of(part[part["type"]])
        if not modalities:
            return [[ReplyPart("text", text=published_captions.BALL)] for _ in conversations]
        return [[ReplyPart("image", array=np.full((16, 16, 3), 20 + seed, np.uint8))] for seed in seeds]


def _scored(tasks, folder):
    folder.mkdir()
    run.predict(_Echo(), tasks, folder, temperature=0.0, seed=0)
    return run.score(tasks, folder)["tasks"]


@pytest.mark.parametrize("write", [published_captions.img2dataset, published_captions.hub_parquet])
def test_media_within_data_files_are_inputs_and_references(tmp_path, write):
    root, out = tmp_path / "data", tmp_path / "out"
    written = write(root)
    source = DataFiles(root, written.files)
    tasks = [
        Captioning("tell", source, [CaptionQuality(["ROUGE-L"])], "What is it?"),
        Generating("make", source, [Similarity(Means(), "CLIP-I", to="medium")], "{caption}"),
    ]
    found = _scored(tasks, out)
    assert {name: (task["items"], task["skipped"], task["failed"]) for name, task in found.items()} == {
        "tell": (2, {}, {}),
        "make": (2, {}, {}),
    }
    assert found["tell"]["scores"]["ROUGE-L"]["high"] == pytest.approx(1.0)
    copies = [prediction.reference for prediction in records.read(out) if prediction.reference]
    assert [(out / copy["file"]).read_bytes() for copy in copies] == [
        item.reference.source.read() for _, item in run.items_of(tasks[1])[0]
    ]
    # the scores need the data no more
    for file in written.files:
        (root / file).unlink()
    assert run.score(tasks, out)["tasks"] == found


def test_references_are_copied_only_from_outside_the_datas_folder(tmp_path):
    root, other = tmp_path / "data", tmp_path / "other"
    published.media(root, "0.png")
    published.media(other, "1.png")
    published.in_lines(root, "rows.jsonl", [{"file": f"{n}.png", "caption": "x"} for n in range(2)])
    source = DataFiles(root, ["rows.jsonl"], media_roots=[other])
    task = Generating("make", source, [Similarity(Means(), "CLIP-I", to="medium")], "{caption}")
    found = _scored([task], tmp_path / "out")
    assert found["make"]["scores"]["CLIP-I"]["count"] == 2
    inside, outside = [prediction.reference for prediction in records.read(tmp_path / "out")]
    assert inside == {"type": "image", "file": "0.png"}
    assert outside == {"type": "image", "file": "media/make/00001_reference.png", "copied": True}
    assert (tmp_path / "out" / outside["file"]).read_bytes() == (other / "1.png").read_bytes()


def _evaluation(tmp_path, monkeypatch, name, arguments):
    """Run ``data check`` and ``test`` over one task; what they print, and the task's record."""
    monkeypatch.setattr("nextgpt_pl.pipeline.AnyToAny.from_run", lambda *_, **__: _Echo())
    init = {"name": "t", "scores": [{"class_path": "nextgpt_pl.evaluation.VqaAccuracy"}], **arguments}
    tasks = [{"class_path": f"nextgpt_pl.evaluation.{name}", "init_args": init}]
    (tmp_path / "e.yaml").write_text(yaml.safe_dump({"tasks": tasks}))
    checked = data.main(
        ["data", "check", "-c", str(tmp_path / "e.yaml"), "--workers", "0", "--checked", str(tmp_path / "checked")]
    )
    evaluation.test(["test", "-c", str(tmp_path / "e.yaml"), "--run", str(tmp_path)])
    return checked, json.loads((tmp_path / "eval" / "e" / run.SCORES).read_text())["tasks"]["t"]


def _with_faults(root):
    """Ten rows: of five items, one has a damaged medium and one none, three rows are broken, two are left out."""
    published.media(root, *(f"{n}.png" for n in range(4)))
    (root / "1.png").write_bytes(b"no picture")
    rows = [{"file": f"{n}.png", "caption": "x", "split": "test"} for n in range(5)]
    rows += [{"file": "0.png", "caption": "x", "split": "train"}, {"file": "0.png", "caption": "x", "split": "other"}]
    published.in_lines(root, "rows.jsonl", [*rows, "{", {"file": "2.png", "split": "test"}, "7"])


def test_the_same_is_counted_by_data_check_and_by_test(tmp_path, monkeypatch, capsys):
    _with_faults(tmp_path / "data")
    arguments = {"data": {"root": str(tmp_path / "data"), "files": ["rows.jsonl"]}, "prompt": "What?"}
    checked, record = _evaluation(tmp_path, monkeypatch, "Captioning", arguments)
    printed = capsys.readouterr().out
    assert checked == 0
    assert "5 items that cannot be used" in printed
    listed = [json.loads(line) for line in (tmp_path / "checked" / "e.jsonl").read_text().splitlines()]
    assert (record["items"], len(record["skipped"])) == (3, 5)
    assert {entry["key"] for entry in listed} == set(record["skipped"])
    broken = [f"rows.jsonl, row {n}" for n in (7, 8, 9)]
    assert set(record["skipped"]) == {"1.png", "4.png", *broken}
    reasons = ("line 8: unreadable JSON", "no known layout has", "an object is expected")
    for key, reason in zip(broken, reasons, strict=True):
        assert reason in record["skipped"][key]
    assert record["remarks"] == {"are left out: they are for train": 1, "are left out: split 'other'": 1}
    for remark, count in record["remarks"].items():
        assert f"{count} rows {remark}" in printed
    rows = [row[:4] for row in report.rows({"tasks": {"t": record}})]
    assert ("t", "rows", "1", "are left out: they are for train") in rows
    assert "are left out: they are for train" in (tmp_path / "eval" / "e" / "report.md").read_text()
    # all scores anew, without the data
    (tmp_path / "data" / "rows.jsonl").unlink()
    evaluation.evaluate(["evaluate", str(tmp_path / "eval" / "e")])
    assert json.loads((tmp_path / "eval" / "e" / run.SCORES).read_text())["tasks"]["t"] == record


def test_a_test_set_without_answers_says_so(tmp_path, monkeypatch, capsys):
    written = published_captions.vqav2_test(tmp_path / "data")
    published.in_json(tmp_path / "data", "none.json", {"annotations": []})
    arguments = {"root": str(tmp_path / "data"), "questions": written.files[0], "annotations": "none.json"}
    _, record = _evaluation(tmp_path, monkeypatch, "QuestionAnswering", arguments)
    reason = "are left out: their questions have no answers, so that no reply can be scored"
    assert (record["items"], record["scores"], record["remarks"]) == (0, {}, {reason: 2})
    assert f"2 rows {reason}" in capsys.readouterr().out
    assert [row[:4] for row in report.rows({"tasks": {"t": record}})] == [
        ("t", "items", "0", "the data have nothing to ask about"),
        ("t", "rows", "2", reason),
    ]


def test_data_that_hold_nothing_are_reported(tmp_path):
    published.in_json(tmp_path, "rows.json", [])
    task = Captioning("tell", DataFiles(tmp_path, ["rows.json"]), [VqaAccuracy()], "What?")
    found = _scored([task], tmp_path / "out")
    assert [row[:3] for row in report.rows({"tasks": found})] == [("tell", "items", "0")]


def test_remarks_that_are_no_counts_are_refused(tmp_path):
    (tmp_path / records.REMARKS).write_text('{"t": ["x"]}')
    with pytest.raises(UserError, match=r"remarks\.json: numbers of rows by task and remark are expected"):
        records.read_remarks(tmp_path)


@pytest.mark.parametrize(
    "given",
    [
        {"root": "nowhere", "files": ["x.json"]},
        {"class_path": "nextgpt_pl.datamodules.DataFiles", "init_args": {"root": "nowhere", "files": ["x.json"]}},
        {"class_path": "nextgpt_pl.datamodules.CaptionFolder", "init_args": {"root": "nowhere"}},
        {"class_path": "nextgpt_pl.evaluation.CocoCaptions", "init_args": {"root": "nowhere"}},
    ],
)
def test_a_yaml_is_accepted_without_the_data(tmp_path, given):
    init = {"name": "t", "scores": [], "prompt": "What?", "data": given}
    tasks = [{"class_path": "nextgpt_pl.evaluation.Captioning", "init_args": init}]
    (tmp_path / "e.yaml").write_text(yaml.safe_dump({"tasks": tasks}))
    (task,) = evaluation.tasks_of(*evaluation.parse("test", ["-c", str(tmp_path / "e.yaml")]))
    assert "no such folder" in task.missing()[0]


def test_one_item_is_scored_by_what_it_can_be_scored_by(tmp_path):
    published.in_lines(tmp_path, "captions.jsonl", [{"file": published.media(tmp_path, "0.png")[0], "captions": "x"}])
    task = Captioning("tell", CaptionManifest(tmp_path, "image"), [CaptionQuality(["ROUGE-L", "BLEU-4"])], "What?")
    found = _scored([task], tmp_path / "out")["tell"]
    assert (set(found["scores"]), found["failed"]) == ({"ROUGE-L", "BLEU-4"}, {})
