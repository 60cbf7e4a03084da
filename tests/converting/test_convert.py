"""The course of a conversion: counts, interruptions, sizes of shards, and what is refused."""

import json
from pathlib import Path

import pytest
from converted import content, convert, read_back
from published import in_json, in_lines, media
from published_turns import exchange, messages, png

from nextgpt_pl.converting import convert as course
from nextgpt_pl.converting.chunks import ChunkWriter
from nextgpt_pl.datamodules import CaptionFolder, LLaVA, OfficialJSON
from nextgpt_pl.datamodules.data_files import DataFiles
from nextgpt_pl.errors import UserError

pytest.importorskip("datasets")
pytest.importorskip("webdataset")
both_formats = pytest.mark.parametrize("to", ["tar", "parquet"])


def folder_of(root, count, broken=(), missing=(), **options):
    """A source of images with a caption each."""
    root.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        (root / f"{i}.png").write_bytes(png(i)[: 30 if i in broken else None])
    for i in missing:
        (root / f"{i}.png").unlink()
    rows = [{"file": f"{i}.png", "caption": f"number {i}"} for i in range(count)]
    in_lines(root, "all.jsonl", rows)
    return CaptionFolder(root, "all.jsonl", **{"val_fraction": 0.25, **options})


def contents(folder):
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


@both_formats
def test_rows_read_are_those_written_skipped_and_left_out(tmp_path, to):
    source = folder_of(tmp_path / "m", 20, broken={3, 8}, missing={5}, on_error="skip")
    totals = convert(source, tmp_path / "out", to, rows=6)
    assert [totals[key] for key in ("rows", "written", "skipped", "left_out")] == [20, 17, 3, 0]
    reasons = [json.loads(line) for line in (tmp_path / "out" / "skipped.jsonl").read_text().splitlines()]
    assert sorted(reason.partition(" (")[0].partition(":")[0] for reason in reasons) == [
        "all.jsonl, row 3",
        "all.jsonl, row 5",
        "all.jsonl, row 8",
    ]
    again = read_back(source, tmp_path / "out", to)
    for split in ("train", "val"):
        kept = [item for item in source.read(split) if item.caption not in ("number 3", "number 8")]
        assert [content(item) for item in again.read(split)] == [content(item) for item in kept]


def test_a_row_is_written_if_one_of_its_items_is(tmp_path):
    media(tmp_path, "images/0.png", "images/1.png")
    (tmp_path / "images" / "1.png").write_bytes(b"no image")
    turns = exchange("Draw.", "Here.")
    rows = [
        {"output_image": ["0.png", "1.png"], "image_captions": ["a", "b"], "conversations": turns},
        {"output_image": ["1.png"], "image_captions": ["c"], "conversations": turns},
    ]
    source = OfficialJSON(tmp_path, [in_json(tmp_path, "g.json", rows)], on_error="skip")
    totals = convert(source, tmp_path / "out")
    assert [totals[key] for key in ("rows", "written", "skipped", "items", "skipped_items")] == [2, 1, 1, 1, 2]


def test_an_unusable_item_is_named_unless_it_is_skipped(tmp_path):
    source = folder_of(tmp_path / "m", 9, broken={4})
    for workers in (0, 2):
        with pytest.raises(UserError, match=r"all.jsonl, row 4 \(4.png\): .*4.png: not a readable image"):
            convert(source, tmp_path / f"out{workers}", workers=workers)
    assert convert(source, tmp_path / "copied", check=False)["written"] == 9
    # the conversion goes on where it stopped
    source.on_error = "skip"
    assert convert(source, tmp_path / "out0")["written"] == 8


@both_formats
def test_shards_are_bounded_and_the_same_whatever_the_number_of_workers(tmp_path, to):
    source = folder_of(tmp_path / "m", 40, val_fraction=0.0)
    totals = convert(source, tmp_path / "one", to, rows=10, shard_size=16_000 if to == "tar" else 500)
    files = list((tmp_path / "one").glob(f"*.{to}"))
    assert totals["shards"] == len(files) > 8
    copies = read_back(source, tmp_path / "one", to).read("train")
    assert [content(item) for item in copies] == [content(item) for item in source.read("train")]
    if to == "tar":
        assert max(file.stat().st_size for file in files) <= 16_000
    else:
        assert sorted(f.name for f in files)[-1] == f"train-{len(files) - 1:05}-of-{len(files):05}.parquet"
    convert(source, tmp_path / "two", to, rows=10, shard_size=16_000 if to == "tar" else 500, workers=2)
    assert contents(tmp_path / "two") == contents(tmp_path / "one")


@pytest.fixture
def calls(monkeypatch):
    """A list of how often a conversion looks whether it is interrupted before it is."""
    left, real = [0], ChunkWriter.write

    def write(self, chunk, advance):
        def counted(rows):
            left[0] -= 1
            if left[0] < 0:
                raise KeyboardInterrupt
            advance(rows)

        real(self, chunk, counted)

    monkeypatch.setattr(ChunkWriter, "write", write)
    return left


@both_formats
def test_an_interrupted_conversion_ends_as_one_that_is_not(tmp_path, to, calls):
    options = {"rows": 10, "shard_size": 16_000 if to == "tar" else 500}
    source = folder_of(tmp_path / "m", 43, broken={3, 17, 18}, on_error="skip")
    calls[0], times = 1000, 0
    totals = convert(source, tmp_path / "whole", to, **options)
    while True:
        calls[0] = 8
        try:
            assert convert(source, tmp_path / "again", to, **options) == totals
            break
        except KeyboardInterrupt:
            times += 1
            (tmp_path / "again" / ".unnumbered" / ".x.partial").touch()
    assert times > 3
    assert contents(tmp_path / "again") == contents(tmp_path / "whole")
    assert not (tmp_path / "again" / ".unnumbered").exists()


def test_a_conversion_that_is_killed_while_it_numbers_the_shards_goes_on(tmp_path, monkeypatch):
    source = folder_of(tmp_path / "m", 30)
    totals = convert(source, tmp_path / "whole", rows=5)
    real, left = Path.replace, [4]

    def replace(file, target):
        if file.suffix == ".tar" and target.parent.name in ("train", "val"):
            left[0] -= 1
            if left[0] < 0:
                raise KeyboardInterrupt
        return real(file, target)

    monkeypatch.setattr(Path, "replace", replace)
    with pytest.raises(KeyboardInterrupt):
        convert(source, tmp_path / "again", rows=5)
    left[0] = 100
    assert convert(source, tmp_path / "again", rows=5) == totals
    assert contents(tmp_path / "again") == contents(tmp_path / "whole")


def test_other_data_and_options_are_refused_and_a_finished_conversion_is_left_alone(tmp_path, calls, monkeypatch):
    source = folder_of(tmp_path / "m", 12)
    calls[0] = 4
    with pytest.raises(KeyboardInterrupt):
        convert(source, tmp_path / "out", rows=3)
    with pytest.raises(UserError, match=r"a conversion of other data or with other options \(rows\); give another"):
        convert(source, tmp_path / "out", rows=4)
    calls[0] = 100
    totals = convert(source, tmp_path / "out", rows=3)
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "out").rglob("*")}
    monkeypatch.setattr(course, "parts_of", lambda source: pytest.fail("it is converted again"))
    assert convert(source, tmp_path / "out", rows=3) == totals
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "out").rglob("*")} == before
    with (tmp_path / "m" / "all.jsonl").open("a") as file:
        file.write(json.dumps({"file": "1.png", "caption": "more"}) + "\n")
    with pytest.raises(UserError, match=r"other options \(data files\)"):
        convert(folder_of(tmp_path / "m", 13), tmp_path / "out", rows=3)
    with pytest.raises(UserError, match=r"it holds other files"):
        convert(source, tmp_path / "m")


def test_media_that_a_source_does_not_need_may_be_missing(tmp_path):
    turns = exchange("Draw.", "Here.")
    rows = [{"output_image": ["0.png"], "image_captions": ["a"], "conversations": turns}]
    source = OfficialJSON(tmp_path, [in_json(tmp_path, "g.json", rows)], need_media=False)
    totals = convert(source, tmp_path / "out")
    assert (totals["written"], totals["missing"]) == (1, 1)
    (pair,) = read_back(source, tmp_path / "out").read("train")
    assert (pair.caption, pair.media) == ("a", None)

    shown = [{"image": "0.png", "conversations": exchange("<image>What?", "A ball.")}]
    source = LLaVA(tmp_path, [in_json(tmp_path, "l.json", shown)], need_media=False)
    with pytest.raises(UserError, match=r"l.json, row 0: message 0: .*0.png: no such file"):
        convert(source, tmp_path / "shown")


def test_pairs_and_dialogues_of_one_source_are_converted_to_tar_alone(tmp_path):
    media(tmp_path, "a.png")
    rows = [{"messages": messages("Hi.", "Hello.")}, {"image": "a.png", "caption": "A ball."}]
    source = DataFiles(tmp_path, [in_lines(tmp_path, "mixed.jsonl", rows)])
    with pytest.raises(UserError, match=r"pairs and dialogues in one source .* --to=tar"):
        convert(source, tmp_path / "parquet", "parquet")
    convert(source, tmp_path / "tar")
    again = read_back(source, tmp_path / "tar")
    assert [content(item) for item in again.read("train")] == [content(item) for item in source.read("train")]


def test_a_missing_package_is_named_with_its_command(tmp_path, monkeypatch):
    monkeypatch.setattr("nextgpt_pl.converting.writers.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"--to=parquet needs datasets: pip install 'nextgpt-pl\[convert\]'"):
        convert(folder_of(tmp_path / "m", 2), tmp_path / "out", "parquet")


def test_shards_are_not_written_among_the_files_that_are_read(tmp_path):
    folder_of(tmp_path / "m", 2)
    for i in range(2):
        (tmp_path / "m" / f"{i}.txt").write_text(f"number {i}")
    with pytest.raises(UserError, match=r"m/out is within .*m, which the source reads"):
        convert(CaptionFolder(tmp_path / "m"), tmp_path / "m" / "out")
    assert not (tmp_path / "m" / "out").exists()
    assert convert(CaptionFolder(tmp_path / "m", val_fraction=0.0), tmp_path / "out")["written"] == 2


def test_rows_that_became_usable_meanwhile_are_noticed(tmp_path, calls):
    image = tmp_path / "m" / "2.png"
    calls[0] = 8
    with pytest.raises(KeyboardInterrupt):
        convert(folder_of(tmp_path / "m", 12, missing={2}, on_error="skip"), tmp_path / "out", rows=3)
    image.write_bytes(png(2))
    source = CaptionFolder(tmp_path / "m", "all.jsonl", on_error="skip", val_fraction=0.25)
    calls[0] = 100
    with pytest.raises(UserError, match=r"other data or with other options \(usable rows\)"):
        convert(source, tmp_path / "out", rows=3)
    image.unlink()
    source = CaptionFolder(tmp_path / "m", "all.jsonl", on_error="skip", val_fraction=0.25)
    assert convert(source, tmp_path / "out", rows=3)["written"] == 11
