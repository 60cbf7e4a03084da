"""``data check``, ``fit`` and ``test`` on the same damaged files: each goes on, and all find the same ones."""

import json
import os
import re
from pathlib import Path

import damaged
import pytest
import yaml
from tiny_experiments import encoder_alignment, made

from nextgpt_pl.__main__ import main
from nextgpt_pl.datamodules import CaptionFolder
from nextgpt_pl.datamodules.row_notes import FILE


def _experiment(folder, written, models):
    sources = [
        made("datamodules.CaptionFolder", root=str(folder), manifest=name, on_error="skip", val_fraction=0.0)
        for name in written.manifests.values()
    ]
    trainer = {
        "accelerator": "cpu",
        "max_epochs": 1,
        "limit_val_batches": 0,
        "num_sanity_val_steps": 0,
        "logger": False,
    }
    return {**encoder_alignment(models, *sources, video_clips=2, captions=0), "trainer": trainer}


def _tasks(folder, written):
    scores = [made("evaluation.VqaAccuracy")]
    return {
        "tasks": [
            made(
                "evaluation.Captioning",
                name=modality.value,
                data=made("evaluation.CaptionManifest", root=str(folder), modality=modality.value, manifest=name),
                scores=scores,
                prompt="What is it?",
                max_new_tokens=1,
            )
            for modality, name in written.manifests.items()
        ]
    }


def _in_yaml(path, content):
    path.write_text(yaml.safe_dump(content))
    return str(path)


def _names(texts):
    """The names of the set's files in texts."""
    return {re.search(r"\d+\.\w+", text)[0] for text in texts}


def _checked(file, folder, capsys):
    """What ``data check`` lists: the faults of items, and the number of broken rows; it exits with 0."""
    assert main(["data", "check", "-c", file, "--checked", str(folder), "--workers", "0"]) == 0
    capsys.readouterr()
    found = [json.loads(line) for line in (folder / f"{Path(file).stem}.jsonl").read_text().splitlines()]
    faults = [row["key"] for row in found if row["kind"] == "items that cannot be used"]
    return faults, sum(row["kind"] == "rows broken" for row in found), len(found)


_LONG = pytest.mark.skipif(not os.environ.get("NEXTGPT_LONG_TESTS"), reason="5 minutes; NEXTGPT_LONG_TESTS=1 runs it")


@pytest.mark.parametrize(
    ("count", "spoiled"), [(150, 75), pytest.param(2000, 500, marks=[pytest.mark.slow, _LONG])], ids=["150", "2000"]
)
def test_check_fit_and_test_find_the_same_damaged_files(count, spoiled, tiny_models, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "set"
    folder.mkdir()
    written = damaged.write(folder, count, spoiled, broken_rows=5)
    assert len(written.files) == spoiled
    experiment = _in_yaml(tmp_path / "fit.yaml", _experiment(folder, written, tiny_models))
    faults, broken, listed = _checked(experiment, tmp_path / "checked", capsys)
    assert (_names(faults), len(faults), broken, listed) == (written.files, spoiled, 15, spoiled + 15)

    assert main(["fit", "-c", experiment, "--run.name=run"]) == 0
    (run,) = tmp_path.glob("outputs/*/run")
    notes = [json.loads(line) for line in (run / FILE).read_text().splitlines()]
    assert {note["kind"] for note in notes} == {"skipped"}
    assert (_names(note["key"] for note in notes), len(notes)) == (written.files, spoiled)
    assert sorted(note["key"] for note in notes) == sorted(faults)

    tasks = _in_yaml(tmp_path / "test.yaml", _tasks(folder, written))
    faults, broken, listed = _checked(tasks, tmp_path / "checked", capsys)
    rows = {fault for fault in faults if ", row " in fault}  # to an evaluation, they are items
    assert (_names(set(faults) - rows), len(rows)) == (written.files, 15)
    assert (len(faults), broken, listed) == (spoiled + 15, 0, spoiled + 15)
    assert main(["test", "-c", tasks, "--run", str(run), "--out", str(tmp_path / "replies")]) == 0
    scores = json.loads((tmp_path / "replies" / "scores.json").read_text())["tasks"]
    skipped = {key for task in scores.values() for key in task["skipped"]}
    assert _names(skipped - rows) == written.files
    assert rows <= skipped
    assert len(skipped) == spoiled + 15
    assert sum(task["items"] for task in scores.values()) == count - spoiled


def test_a_file_that_vanishes_during_the_check_is_one_unusable_item(tiny_models, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "set"
    folder.mkdir()
    written = damaged.write(folder, 12, 0)
    read = CaptionFolder.read

    def read_then_remove(source, split):
        items = read(source, split)
        (folder / "0.png").unlink(missing_ok=True)
        return items

    monkeypatch.setattr(CaptionFolder, "read", read_then_remove)
    experiment = _in_yaml(tmp_path / "fit.yaml", _experiment(folder, written, tiny_models))
    faults, broken, _ = _checked(experiment, tmp_path / "checked", capsys)
    assert (faults, broken) == (["image.jsonl, row 0"], 0)
