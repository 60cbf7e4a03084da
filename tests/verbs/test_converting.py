import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from converted import content
from published import in_lines
from published_turns import png

from nextgpt_pl.__main__ import main
from nextgpt_pl.training.cli import build

pytest.importorskip("webdataset")
ROOT = Path(__file__).parent.parent.parent
# Ctrl-C works in it also where the tests run in the background, whose processes ignore SIGINT
PROGRAM = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from nextgpt_pl.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


def write_data(folder, count=30):
    """A YAML of two data sets of images, one with a broken file."""
    sources = []
    for number, name in enumerate(("one set", "two")):
        root = folder / str(number)
        root.mkdir()
        for i in range(count):
            (root / f"{i}.png").write_bytes(png(i % 256)[: 20 if i == 3 and number else None])
        in_lines(root, "all.jsonl", [{"file": f"{i}.png", "caption": f"number {i}"} for i in range(count)])
        arguments = {"root": str(root), "files": ["all.jsonl"], "name": name, "val_fraction": 0.3, "on_error": "skip"}
        sources.append({"class_path": "nextgpt_pl.datamodules.DataFiles", "init_args": arguments})
    file = folder / "data.yaml"
    file.write_text(yaml.safe_dump({"data": {"init_args": {"weights": None, "sources": sources}}}))
    return ["-c", str(ROOT / "experiments" / "enc_align.yaml"), "-c", str(file)]


def test_the_yaml_beside_the_shards_trains_from_the_same_items(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = write_data(tmp_path)
    command = ["data", "convert", *arguments, "--output=out", "--workers=0", "--rows=10"]
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert "30 rows read = 30 written + 0 skipped + 0 left out" in printed
    assert "30 rows read = 29 written + 1 skipped + 0 left out" in printed
    assert "all.jsonl, row 3 (3.png): " in printed
    assert (tmp_path / "out" / "data.yaml").read_text() in printed

    _, before = build(arguments)
    _, after = build([*arguments, "-c", "out/data.yaml"])
    assert [(s.name, s.on_error) for s in after.sources] == [("one set", "skip"), ("two", "skip")]
    for source, copy in zip(before.sources, after.sources, strict=True):
        for split in ("train", "val"):
            items = [i for i in source.read(split) if source.name != "two" or i.caption != "number 3"]
            assert [content(item) for item in copy.read(split)] == [content(item) for item in items]

    assert main([*command, "--rows=11"]) == 2
    assert "one-set: a conversion of other data or with other options (rows)" in capsys.readouterr().err


@pytest.mark.parametrize(("option", "message"), [("--rows=0", "--rows=0"), ("--to=zip", "zip"), ("--workers=-1", "-1")])
def test_an_impossible_option_is_named(option, message, tmp_path, capsys):
    assert main(["data", "convert", *write_data(tmp_path, 2), f"--output={tmp_path / 'out'}", option]) == 2
    assert message in capsys.readouterr().err


def _start(command):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *command], env=environment, stdout=subprocess.PIPE, text=True
    )


def _wait_for_shards(folder, count, process):
    while len(list(folder.glob("one-set/.unnumbered/*.tar"))) < count:
        assert process.poll() is None, "it ended by itself"
        time.sleep(0.01)


@pytest.mark.slow
def test_a_conversion_that_is_killed_and_interrupted_ends_as_one_that_is_not(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command = ["data", "convert", *write_data(tmp_path, 1200), "--workers=2", "--rows=40"]
    killed = _start([*command, "--output=again"])
    _wait_for_shards(tmp_path / "again", 3, killed)
    killed.kill()
    killed.wait()
    interrupted = _start([*command, "--output=again"])
    _wait_for_shards(tmp_path / "again", 9, interrupted)
    interrupted.send_signal(signal.SIGINT)
    output, _ = interrupted.communicate()
    assert interrupted.returncode == 130
    assert "interrupted; the same command continues" in output
    assert not list((tmp_path / "again" / "one-set" / ".unnumbered").glob(".*"))
    for folder in ("again", "whole"):
        assert main([*command, f"--output={folder}"]) == 0
    files = [f.relative_to(tmp_path / "whole") for f in (tmp_path / "whole").rglob("*") if f.is_file()]
    assert len(files) > 60
    for file in files:
        if file.name != "data.yaml":
            assert (tmp_path / "again" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes(), file
