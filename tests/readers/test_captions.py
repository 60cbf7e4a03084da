import json
import math
import re
from dataclasses import replace
from pathlib import Path

import published
import published_captions
import pytest
import tiny
from published_captions import BALL, CAPTIONED, LAKE, QUESTIONS
from published_turns import exchange

from nextgpt_pl.datamodules import CaptionedPairs, CaptionFolder, DataFiles, Dialogues
from nextgpt_pl.datamodules.kinds import kind_code
from nextgpt_pl.errors import UserError
from nextgpt_pl.media.reading import array_of
from nextgpt_pl.stages import EncoderAlignment
from nextgpt_pl.verbs.inspect import lines_of

#: columns without a header have no keys; further columns beside ``columns`` are listed
_WITHOUT_KEYS = ("cc3m", "cc12m", "audiocaps_without_header", "flickr30k_token", "own_columns")


def _source(folder, written, **options):
    return DataFiles(folder, written.files, **{**written.options, **options})


def _name(folder, source):
    return str(source.relative_to(folder)) if isinstance(source, Path) else source.name


@pytest.mark.parametrize("name", CAPTIONED)
def test_captions_and_media_of_a_published_set(tmp_path, name):
    written = CAPTIONED[name](tmp_path)
    pairs = _source(tmp_path, written).read("train")
    assert [pair.caption for pair in pairs] == written.texts
    assert pairs.kinds.tolist() == [kind_code(pair) for pair in pairs]
    for pair, expected in zip(pairs, written.media, strict=True):
        assert array_of(pair.media)[0].size
        if isinstance(pair.media.source, Path):
            assert pair.media.source == tmp_path / expected
        else:
            assert expected in pair.key


@pytest.fixture(scope="module")
def stages(tiny_models):
    """The stages of dialogues and of pairs."""
    return tiny.stage_and_data("InstructionTuning", tiny_models, 2)[0], EncoderAlignment(tiny.network(tiny_models))


@pytest.mark.parametrize("name", [*CAPTIONED, *QUESTIONS])
def test_a_batch_of_a_published_set_is_trained_on_and_printed(tmp_path, stages, name):
    pairs = name in CAPTIONED
    written = (CAPTIONED if pairs else QUESTIONS)[name](tmp_path)
    stage = stages[pairs]
    data = (CaptionedPairs if pairs else Dialogues)([_source(tmp_path, written)], batch_size=8)
    trainer = tiny.quiet_trainer(tmp_path, max_steps=1, limit_val_batches=0, log_every_n_steps=1)
    trainer.fit(stage, datamodule=data)
    assert trainer.global_step == 1
    assert math.isfinite(trainer.callback_metrics["train/loss"])
    batch = next(iter(data.train_dataloader()))
    printed = lines_of(batch, stage.renderer, colour=False)
    assert len(printed) == len(batch) == len(written.texts)
    for text in written.texts:
        said = text if pairs else text[1]
        assert any(said in line and re.search(r"<(image|video|audio) x\d+>", line) for line in printed), said


@pytest.mark.parametrize("name", [name for name in CAPTIONED if name not in ("hub_parquet", "img2dataset_parquet")])
def test_without_media_the_captions_are_still_read(tmp_path, name):
    written = CAPTIONED[name](tmp_path)
    for file in written.media:
        (tmp_path / file).unlink(missing_ok=True)
    in_tar = written.files[0].endswith(".tar")
    if not in_tar:
        with pytest.raises(UserError, match=r"missing (image|video|audio) file"):
            _source(tmp_path, written).read("train")
    assert [pair.caption for pair in _source(tmp_path, written, need_media=False).read("train")] == written.texts


def _with_more(folder, file, key):
    """Add a key to each row of a data file."""
    path = folder / file
    if path.suffix == ".parquet":
        import pyarrow.parquet as pq

        table = pq.read_table(path)
        pq.write_table(table.append_column(key, [["x"] * len(table)]), path)
    elif path.suffix == ".tar":
        import tarfile

        with tarfile.open(path) as archive:
            members = {m.name: archive.extractfile(m).read() for m in archive}
        for name, content in members.items():
            if name.endswith(".json"):
                members[name] = json.dumps({**json.loads(content), key: "x"}).encode()
        published.in_tar(folder, file, members)
    elif path.suffix == ".csv":
        delimiter = "|" if "|" in path.read_text() else ","
        first, *lines = path.read_text().splitlines()
        path.write_text("\n".join([f"{first}{delimiter}{key}", *(f"{line}{delimiter}x" for line in lines)]))
    elif path.suffix == ".jsonl":
        rows = [json.loads(line) for line in path.read_text("utf-8-sig").strip("\n").split("\n")]
        path.write_text("\n".join(json.dumps({**row, key: "x"}) for row in rows))
    else:
        content = json.loads(path.read_text())
        rows = (
            content
            if isinstance(content, list)
            else next(content[k] for k in ("images", "videos", "data", "questions") if k in content)
        )
        for row in rows:
            row[key] = "x"
        path.write_text(json.dumps(content))


@pytest.mark.parametrize("name", [name for name in CAPTIONED if name not in _WITHOUT_KEYS])
def test_unknown_keys_are_refused_unless_they_are_ignored(tmp_path, name):
    written = CAPTIONED[name](tmp_path)
    key = "statusz" if written.files[0].endswith(".tar") else "captionz" if "official" in name else "splitz"
    _with_more(tmp_path, written.files[0], key)
    with pytest.raises(UserError, match=f"row 0: key '{key}' would not be read; did you mean '{key[:-1]}'") as error:
        _source(tmp_path, written).read("train")
    assert f"ignore: [{key}]" in str(error.value)
    assert [p.caption for p in _source(tmp_path, written, ignore=[key]).read("train")] == written.texts


def test_failed_downloads_are_counted_and_no_errors(tmp_path):
    source = _source(tmp_path, published_captions.downloads(tmp_path))
    source.read("train")
    assert source.report.message().splitlines() == [
        f"used 2 of 2 rows of {tmp_path}",
        "  1 rows are left out: status 'failed_to_download'",
    ]


def test_columns_that_are_not_read_are_listed_once(tmp_path):
    source = _source(tmp_path, published_captions.own_columns(tmp_path))
    source.read("train")
    assert source.report.notes == ["2 rows have columns that are not read: licence"]


def test_broken_parts_of_a_coco_object_are_named(tmp_path):
    written = published_captions.coco(tmp_path)
    path = tmp_path / written.files[0]
    content = json.loads(path.read_text())
    content["annotations"] += [{"id": 7, "image_id": 99, "caption": "of no image"}, {"id": 8, "caption": "no id"}]
    content["images"].append({"id": 44, "file_name": "44.jpg"})
    path.write_text(json.dumps(content))
    source = _source(tmp_path, written, on_error="skip")
    assert [pair.caption for pair in source.read("train")] == written.texts
    message = source.report.message()
    assert "annotations 4: image_id=None" in message
    assert "1 captions in annotations of image_id=99, which is not in images" in message
    assert "1 rows are left out: no caption in annotations" in message
    content["anotations"] = []
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"COCO object: key 'anotations' would not be read; did you mean 'annotations'"):
        _source(tmp_path, written).read("train")


def test_a_conversation_with_a_list_of_images_is_no_packed_set(tmp_path):
    (tmp_path / "0.png").write_bytes(b"")
    row = {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}], "annotations": ["x"]}
    published.in_lines(tmp_path, "talk.jsonl", [row])
    assert len(DataFiles(tmp_path, ["talk.jsonl"], ignore=["annotations"]).read("train")) == 1


SPLITS = [("a", "train"), ("b", "restval"), ("c", "val"), ("d", "test"), ("e", "other")]


def _karpathy_of_splits(folder):
    rows = [
        {"filename": f"{name}.jpg", "imgid": 0, "split": split, "sentences": [{"raw": name}]} for name, split in SPLITS
    ]
    published.in_json(folder, "d.json", {"images": rows, "dataset": "flickr30k"})
    return ["d.json"]


@pytest.mark.parametrize(
    ("split", "train", "val"),
    [
        (None, "ab", "c"),
        ({"train": ["train"], "val": ["val", "other"]}, "a", "ce"),
        ({"column": "split", "train": ["train", "val"]}, "ac", "ac"),
    ],
)
def test_a_column_of_the_data_set_gives_the_split(tmp_path, split, train, val):
    source = DataFiles(tmp_path, _karpathy_of_splits(tmp_path), split=split, need_media=False)
    assert "".join(pair.caption for pair in source.read("train")) == train
    assert "".join(pair.caption for pair in source.read("val")) == val
    left = sorted(note for note in source.report.notes if "left out" in note)
    assert sum(int(note.split()[0]) for note in left) == 5 - len(set(train + val))


@pytest.mark.parametrize(
    ("split", "message"),
    [
        ({"colum": "split"}, "'colum' is no key of it; did you mean 'column'"),
        ({"column": "split"}, "values of train, val or test are expected"),
        ({"train": ["a"], "val": "a"}, "'a' is named twice"),
        ({"column": "part", "train": ["a"]}, r"row 0: split: the row has no column 'part'"),
    ],
)
def test_wrong_splits_are_refused(tmp_path, split, message):
    with pytest.raises(UserError, match=message):
        DataFiles(tmp_path, _karpathy_of_splits(tmp_path), split=split, need_media=False).read("train")


def test_all_captions_of_a_medium_are_on_one_side(tmp_path):
    lines = ["audiocap_id,youtube_id,start_time,caption"]
    lines += [f"{5 * clip + n},clip{clip},0,caption {n}" for clip in range(40) for n in range(5)]
    published.in_lines(tmp_path, "test.csv", lines)
    source = DataFiles(tmp_path, ["test.csv"], need_media=False, val_fraction=0.5)
    sides = [{pair.media.source.name for pair in source.read(split)} for split in ("train", "val")]
    assert len(sides[0] | sides[1]) == 40
    assert not sides[0] & sides[1]
    assert all(sides)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"imag": "a", "caption": "b"}, "'imag' is nothing that a column can mean; did you mean 'image'"),
        ({"image": ["a"], "caption": "b"}, r"image=\['a'\]: the name of one column"),
        ({"image": "a"}, "a medium and its caption, or a question and its answer are expected"),
        ({"image": "a", "caption": "b", "question": "c"}, "a medium and its caption, or"),
        ({"image": "{no", "caption": "first"}, "columns: image='{no'"),
        ({"image": "{no!r}.jpg", "caption": "first"}, "{COLUMN} or {COLUMN:012d} is expected"),
        ({"image": "{no:999999d}.jpg", "caption": "first"}, "{COLUMN} or {COLUMN:012d} is expected"),
        ({"image": "{number}.jpg", "caption": "first"}, "row 0: .* the row has no 'number'"),
        ({"image": "no", "caption": ["first", "secnd"]}, "row 0: .*no column 'secnd'; did you mean 'second'"),
    ],
)
def test_wrong_columns_are_refused(tmp_path, columns, message):
    written = published_captions.own_columns(tmp_path)
    with pytest.raises(UserError, match=message):
        DataFiles(tmp_path, written.files, columns=columns, need_media=False).read("train")


def test_a_pattern_names_media_that_are_stored_otherwise(tmp_path):
    written = published_captions.webvid(tmp_path)
    for number, file in enumerate(written.media):
        (tmp_path / file).rename(tmp_path / f"{number + 20:05d}.mp4")
    moved = replace(written, media=["00020.mp4", "00021.mp4"])
    with pytest.raises(UserError, match=r"missing video file .*000001_000050/20\.mp4, nor is there 20\.mp4"):
        _source(tmp_path, moved).read("train")
    pairs = _source(tmp_path, moved, media_name="{videoid:05d}.mp4").read("train")
    assert [_name(tmp_path, pair.media.source) for pair in pairs] == moved.media
    with pytest.raises(
        UserError, match=r"row 0: media_name='\{video\}.mp4': the row has no 'video'; did you mean 'videoid'"
    ):
        _source(tmp_path, moved, media_name="{video}.mp4").read("train")
    manifest = published_captions.metadata_csv(tmp_path)
    with pytest.raises(UserError, match="rows of the layout manifest name their media themselves"):
        _source(tmp_path, manifest, media_name="{text}.png").read("train")


def test_a_name_from_a_column_stays_in_its_folder(tmp_path):
    published.in_lines(tmp_path, "t.csv", ["videoid,page_dir,name", "x,../../..,a caption"])
    with pytest.raises(UserError, match="leaves its folder"):
        DataFiles(tmp_path, ["t.csv"]).read("train")


def _made(caption):
    turn = {"from": "gpt", "value": "Here.", "caption": [caption], "output_modality": "image"}
    return {"image_name": "1.jpg", "conversation": [*exchange("Draw."), turn]}


@pytest.mark.parametrize("caption", [None, "", "  "])
@pytest.mark.parametrize(
    "row_with",
    [
        lambda caption: {"file_name": "0.png", "text": caption},
        lambda caption: {"file_name": "0.png", "captions": [caption]},
        lambda caption: {"youtube_id": "a", "start_time": 1, "caption": caption},
        lambda caption: {"file_name": "a.wav", "caption_1": "It hums", "caption_2": caption},
        lambda caption: {"filename": "a.jpg", "sentences": [{"raw": caption}]},
        lambda caption: {"image_name": "1.jpg", "caption": caption},
        lambda caption: {
            "output_image": "1.jpg",
            "image_captions": [caption],
            "conversations": exchange("Draw.", "H."),
        },
        lambda caption: {"image_captions": [caption], "conversations": exchange("Draw.", "Here. <image>")},
        _made,
    ],
)
def test_empty_captions_are_refused_in_the_same_words(tmp_path, caption, row_with):
    row = row_with(caption)
    published.in_lines(tmp_path, "m.jsonl", [row, row])
    with pytest.raises(UserError, match="row 0: the caption is empty: there is nothing to learn"):
        DataFiles(tmp_path, ["m.jsonl"], need_media=False).read("train")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["a caption\tanother caption"], "one is expected to be a URL or a file name"),
        (["a caption\thttp://example.org/"], "the URL ends without a file name"),
        (["1,abc,late,a hum"], "four columns without a header are those of AudioCaps"),
    ],
)
def test_columns_without_a_header_that_fit_no_set_are_refused(tmp_path, lines, message):
    published.in_lines(tmp_path, "t.tsv", lines)
    with pytest.raises(UserError, match=message):
        DataFiles(tmp_path, ["t.tsv"], need_media=False).read("train")


def test_a_missing_file_is_an_error_though_broken_rows_are_skipped(tmp_path):
    for options in ({"files": ["no.csv"]}, {"files": ["yes.csv"], "joins": {"key": "no.csv"}}):
        (tmp_path / "yes.csv").write_text("file_name,text\n")
        with pytest.raises(UserError, match=r"no\.csv: no such file"):
            DataFiles(tmp_path, on_error="skip", **options).read("train")
    with pytest.raises(UserError, match=r"no\.jsonl: no such file"):
        CaptionFolder(tmp_path, manifest="no.jsonl", on_error="skip").read("train")


def test_a_folder_with_a_table_as_manifest(tmp_path):
    written = published_captions.metadata_csv(tmp_path)
    pairs = CaptionFolder(tmp_path / "train", manifest="metadata.csv", val_fraction=0).read("train")
    assert [pair.caption for pair in pairs] == written.texts == [BALL, LAKE]


def test_items_of_an_index_on_disk_are_those_of_memory(tmp_path, monkeypatch):
    from nextgpt_pl.datamodules import indexed_items

    monkeypatch.setattr(indexed_items, "_MEMORY", 0)
    written = published_captions.downloads(tmp_path)
    for _ in range(2):  # made, and found again
        source = _source(tmp_path, written, index_folder=tmp_path / "rows")
        assert [pair.caption for pair in source.read("train")] == written.texts
        assert source.report.notes == ["1 rows are left out: status 'failed_to_download'"]
        monkeypatch.setattr(indexed_items, "_entries", None)  # the second time, no row is read
