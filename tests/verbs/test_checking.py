import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
import tiny
import yaml
from PIL import Image
from tiny_experiments import encoder_alignment, made

from nextgpt_pl.__main__ import main
from nextgpt_pl.datamodules import CaptionedPairs, CaptionFolder, DataFiles
from nextgpt_pl.datamodules.checked_media import CheckedMedia
from nextgpt_pl.media import reading as media
from nextgpt_pl.modality import Modality
from nextgpt_pl.samples import Media
from nextgpt_pl.stages import EncoderAlignment


@pytest.fixture
def folder(tmp_path):
    """Fifty media, of which nine cannot be used, a caption that is too long, and a row without a file."""
    root = tmp_path / "media"
    root.mkdir()
    lines = []
    for index in range(25):
        Image.fromarray(np.full((20, 24, 3), 9 * index, np.uint8)).save(root / f"{index}.png")
        samples = np.sin(np.arange(16000) / (index + 2)).astype(np.float32)
        samples[7] = np.nan if index % 10 == 3 else 0
        soundfile.write(root / f"{index}.wav", samples, 16_000, subtype="FLOAT")
        lines += [{"file": f"{index}.{kind}", "caption": f"a red circle {index}"} for kind in ("png", "wav")]
    for index in range(0, 24, 4):
        data = (root / f"{index}.png").read_bytes()
        (root / f"{index}.png").write_bytes(data[: 2 * index])
    lines[-1]["caption"] = "a red circle " * 300
    lines.append({"file": "none.png", "caption": "x"})
    (root / "all.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return root


def _config(folder, tiny_models, on_error):
    source = made(
        "datamodules.CaptionFolder", root=str(folder), manifest="all.jsonl", on_error=on_error, val_fraction=0.3
    )
    found = encoder_alignment(tiny_models, source, batch_size=8)
    file = folder.parent / f"{on_error}.yaml"
    file.write_text(yaml.safe_dump(found))
    return str(file)


def test_check_and_training_skip_the_same_rows_and_a_second_check_opens_nothing(
    folder, tiny_models, tmp_path, capsys, monkeypatch
):
    command = ["data", "check", "-c", _config(folder, tiny_models, "skip"), "--checked", str(tmp_path / "c")]
    assert main([*command, "--workers", "2"]) == 0
    printed = capsys.readouterr().out
    assert "used 50 of 51 rows" in printed
    assert "50 files opened, 0 already checked: 1 rows broken, 10 items that cannot be used" in printed
    listed = [json.loads(line) for line in (tmp_path / "c" / "skip.jsonl").read_text().splitlines()]
    assert sum("not finite" in row["reason"] for row in listed) == 3
    assert sum(".png: " in row["reason"] for row in listed) == 6
    assert sum("data.max_length is 512" in row["reason"] for row in listed) == 1

    monkeypatch.setattr("nextgpt_pl.datamodules.checked_media.check_readable", lambda medium: pytest.fail(str(medium)))
    assert main([*command, "--workers", "0"]) == 0
    assert "0 files opened, 50 already checked: 1 rows broken, 10 items" in capsys.readouterr().out

    stage = EncoderAlignment(tiny.network(tiny_models), captions=0)
    data = CaptionedPairs([CaptionFolder(folder, "all.jsonl", "skip", 0.3)], batch_size=8)
    tiny.quiet_trainer(tmp_path, max_epochs=1, num_sanity_val_steps=0).fit(stage, data)
    rows = data.rows_used()
    assert rows["train_rows_skipped"] + rows["val_rows_skipped"] == 11
    assert rows["train_rows_used"] + rows["val_rows_used"] == 40
    keys = {json.loads(line)["key"] for line in (tmp_path / "skipped_rows.jsonl").read_text().splitlines()}
    assert keys == {row["key"] for row in listed if row["kind"] == "items that cannot be used"}


def test_what_would_stop_a_run_is_exit_2(folder, tiny_models, tmp_path, capsys):
    (folder / "all.jsonl").write_text("\n".join((folder / "all.jsonl").read_text().splitlines()[:-2]))
    command = ["data", "check", "-c", _config(folder, tiny_models, "raise"), "--checked", str(tmp_path / "c")]
    assert main([*command, "--workers", "0"]) == 2
    assert "fit will stop at these" in capsys.readouterr().out


def test_held_out_rows_that_the_data_set_names_are_checked_too(folder, tiny_models, tmp_path, capsys):
    lines = [json.loads(line) for line in (folder / "all.jsonl").read_text().splitlines()[:20]]
    lines = [{"image": row["file"], "caption": row["caption"]} for row in lines if row["file"].endswith(".png")]
    rows = [{**row, "split": "val" if row["image"] in ("0.png", "1.png") else "train"} for row in lines]
    (folder / "split.jsonl").write_text("\n".join(map(json.dumps, rows)))
    config = yaml.safe_load(Path(_config(folder, tiny_models, "skip")).read_text())
    arguments = {"root": str(folder), "files": ["split.jsonl"], "on_error": "skip", "media": {"image": "."}}
    config["data"]["init_args"]["sources"] = [
        {"class_path": "nextgpt_pl.datamodules.DataFiles", "init_args": arguments}
    ]
    (tmp_path / "split.yaml").write_text(yaml.safe_dump(config))
    command = ["data", "check", "-c", str(tmp_path / "split.yaml"), "--checked", str(tmp_path / "c"), "--workers", "0"]
    assert main(command) == 0
    assert "10 files opened" in capsys.readouterr().out
    listed = [json.loads(line) for line in (tmp_path / "c" / "split.jsonl").read_text().splitlines()]
    assert {(row["where"], row["key"].split("(")[-1]) for row in listed} >= {("val", "0.png)")}


def test_the_files_of_evaluation_tasks_are_opened(folder, tmp_path, capsys):
    (folder / "captions.jsonl").write_text(
        "\n".join(json.dumps({"file": f"{i}.png", "captions": ["a red circle"]}) for i in (*range(6), 99))
    )
    layout = {
        "class_path": "nextgpt_pl.evaluation.CaptionManifest",
        "init_args": {"root": str(folder), "modality": "image"},
    }
    scores = [{"class_path": "nextgpt_pl.evaluation.VqaAccuracy"}]
    tasks = [
        {"class_path": f"nextgpt_pl.evaluation.{kind}", "init_args": {"name": kind, "data": layout, "scores": scores}}
        for kind in ("Captioning", "Generating")
    ]
    for task, prompt in zip(tasks, ("What is it?", "{caption}"), strict=True):
        task["init_args"]["prompt"] = prompt
    (tmp_path / "e.yaml").write_text(yaml.safe_dump({"tasks": tasks}))
    command = ["data", "check", "-c", str(tmp_path / "e.yaml"), "--checked", str(tmp_path / "c"), "--workers", "0"]
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert "99.png: No such file" in printed
    assert "6 items that cannot be used" in printed  # 0, 4 and 99, of both tasks


def test_a_file_that_has_changed_is_opened_again(tmp_path):
    file = tmp_path / "a.png"
    Image.new("RGB", (8, 8)).save(file)
    medium, database = Media(Modality.IMAGE, file), CheckedMedia(tmp_path / "opened.sqlite")
    database.add([database.open(medium)])
    assert (database.open(medium).anew, database.open(medium).fault) == (False, None)
    file.write_bytes(b"no picture")
    found = database.open(medium)
    assert found.anew
    assert "not a readable image" in found.fault
    (tmp_path / "text.sqlite").write_text("this is no database at all, but text of some length")
    with pytest.raises(media.UserError, match=r"text\.sqlite: not a database of checked media"):
        CheckedMedia(tmp_path / "text.sqlite")


def test_mistakes_are_named(tmp_path, capsys):
    assert main(["data", "check"]) == 2
    assert "give the YAML" in capsys.readouterr().err
    assert main(["data", "check", "-c", str(tmp_path / "none.yaml")]) == 2
    assert "none.yaml: no such file" in capsys.readouterr().err
    assert main(["data", "check", "-c", "experiments/eval/pocket.yaml", "--workers=-1"]) == 2
    assert "--workers=-1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda source, data: source.update(val_fraction=0.0001), "val: no source has an item of this split"),
        (lambda source, data: source.update(manifest="sounds.jsonl"), "val: none of the items of audio can be used"),
        (lambda source, data: data.update(weights={"depth": 1.0}), "train: data.weights gives a share only to"),
        (lambda source, data: data.update(max_length=4096), "data.max_length=4096: the LLM's context is"),
    ],
    ids=["no validation", "no usable sound", "no item with a share", "beyond the context"],
)
def test_what_stops_a_run_whatever_is_skipped_is_exit_2(change, reason, folder, tiny_models, tmp_path, capsys):
    rows = (folder / "all.jsonl").read_text().splitlines()
    (folder / "sounds.jsonl").write_text("\n".join(r for r in rows if ".png" in r or '"3.wav' in r))
    config = yaml.safe_load(Path(_config(folder, tiny_models, "skip")).read_text())
    data = config["data"]["init_args"]
    data["sources"][0]["init_args"]["val_fraction"] = 0.0
    change(data["sources"][0]["init_args"], data)
    (tmp_path / "x.yaml").write_text(yaml.safe_dump(config))
    command = ["data", "check", "-c", str(tmp_path / "x.yaml"), "--checked", str(tmp_path / "c"), "--workers", "0"]
    assert main(command) == 2
    printed = capsys.readouterr()
    assert reason in printed.out + printed.err


def test_media_within_one_file_are_told_apart(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (20, 24, 3), np.uint8)
    rows = []
    for index in range(3):
        Image.fromarray(noise).save(tmp_path / "a.png")
        content = (tmp_path / "a.png").read_bytes()
        rows.append({"image": {"bytes": content[: 40 if index == 1 else None], "path": None}, "caption": "noise"})
    held = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    schema = pa.schema([("image", held), ("caption", pa.string())])
    pq.write_table(pa.Table.from_pylist(rows, schema), tmp_path / "0.parquet")
    checked = CheckedMedia(tmp_path / "opened.sqlite")
    for anew in (True, False):
        files = []
        for pair in DataFiles(tmp_path, ["0.parquet"]).read("train"):
            files.append(checked.open(pair.media))
            checked.add(files[-1:])
        assert [file.fault is None for file in files] == [True, False, True]
        assert [file.anew for file in files] == [anew] * 3
