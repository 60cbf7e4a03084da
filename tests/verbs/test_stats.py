import json
import signal

import numpy as np
import pytest
import yaml
from PIL import Image
from tiny_experiments import encoder_alignment, made

from nextgpt_pl.__main__ import main
from nextgpt_pl.data_stats import rows
from nextgpt_pl.data_stats.part import Part


@pytest.fixture
def command(tmp_path, tiny_models):
    """Counts twelve captioned images, of which four are held out, with one row that lacks its file."""
    root = tmp_path / "media"
    root.mkdir()
    lines = []
    for index in range(12):
        Image.fromarray(np.full((20, 24, 3), 9 * index, np.uint8)).save(root / f"{index}.png")
        lines.append({"file": f"{index}.png", "caption": f"a red circle {index}"})
    lines.append({"file": "none.png", "caption": "x"})
    (root / "all.jsonl").write_text("\n".join(map(json.dumps, lines)))
    source = made("datamodules.CaptionFolder", root=str(root), manifest="all.jsonl", on_error="skip", val_fraction=0.4)
    experiment = encoder_alignment(tiny_models, source)
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(experiment))
    return ["data", "stats", "-c", str(tmp_path / "mine.yaml"), "--output", str(tmp_path / "out"), "--workers", "0"]


def test_a_page_numbers_and_a_table_are_written(command, tmp_path, capsys):
    assert main(command) == 0
    printed = capsys.readouterr().out
    numbers = json.loads((tmp_path / "out" / "mine.json").read_text())
    train, val = numbers["parts"]
    assert train["rows"] + val["rows"] == 12
    assert train["broken"] + val["broken"] == 1
    assert train["media"]["input"] == {"image": train["rows"]}
    assert [line.split()[:3] for line in printed.splitlines() if "all.jsonl" in line] == [
        ["all.jsonl", part["split"], str(part["rows"])] for part in (train, val)
    ]
    assert f"{tmp_path}/out/mine.html" in printed
    assert "a red circle" in (tmp_path / "out" / "mine.html").read_text()
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["mine.html", "mine.json"]


def test_ctrl_c_keeps_what_was_counted(command, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(rows, "_CHUNK", 2)
    add = Part.add_rows

    def interrupted(part, *arguments):
        add(part, *arguments)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Part, "add_rows", interrupted)
    assert main(command) == 130
    assert "interrupted: the numbers are of what was read" in capsys.readouterr().out
    numbers = json.loads((tmp_path / "out" / "mine.json").read_text())
    assert [(part["read"], part["files"]["read"]) for part in numbers["parts"]] == [(2, 0), (0, 0)]
    assert "The survey was interrupted" in (tmp_path / "out" / "mine.html").read_text()


def test_mistakes_are_named(command, capsys):
    for more, message in (
        (["--sample=-1"], "--sample=-1: at least 0"),
        (["--workers=-1"], "--workers=-1: at least 0"),
        (["--smaple=3"], "smaple"),
        (["--data.max_length=1000000"], "the LLM's context is"),
    ):
        assert main([*command, *more]) == 2, more
        assert message in capsys.readouterr().err
    assert main(["data", "stats"]) == 2
    assert "give the YAML" in capsys.readouterr().err
    assert main(["data", "stats", "--help"]) == 0
    assert "drawn at random" in capsys.readouterr().out
