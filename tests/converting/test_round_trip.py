"""What is read from shards is what was written to them: the same items in the same splits."""

import json

import numpy as np
import pytest
from converted import arrays, content, convert, read_back
from published import in_json, in_lines, media
from published_captions import CAPTIONED, QUESTIONS
from published_messages import MESSAGES
from published_talks import TALKS
from published_turns import exchange, messages

from nextgpt_pl.datamodules import CaptionFolder, OfficialJSON, PocketDialogues, PocketWorld, Source, StreamedShards
from nextgpt_pl.datamodules.data_files import DataFiles
from nextgpt_pl.datamodules.kinds import kind_codes
from nextgpt_pl.datamodules.rows import RowReport
from nextgpt_pl.modality import Modality
from nextgpt_pl.samples import CaptionedPair, Dialogue, Media, MediaPart, Message, TextPart

pytest.importorskip("datasets")
pytest.importorskip("webdataset")
FORMS = {**TALKS, **MESSAGES, **CAPTIONED, **QUESTIONS}
both_formats = pytest.mark.parametrize("to", ["tar", "parquet"])


def check_equal(source, folder, to, splits=("train", "val"), **options):
    totals = convert(source, folder, to, **options)
    again = read_back(source, folder, to)
    for split in splits:
        before, after = source.read(split), again.read(split)
        assert [content(item) for item in after] == [content(item) for item in before]
        assert kind_codes(after).tolist() == kind_codes(before).tolist()
    return totals


@both_formats
@pytest.mark.parametrize("name", FORMS)
def test_every_published_layout(tmp_path, name, to):
    written = FORMS[name](tmp_path)
    source = DataFiles(tmp_path, written.files, **{"embeddings": "compute", **written.options})
    totals = check_equal(source, tmp_path / "out", to)
    assert totals["rows"] == totals["written"] + totals["skipped"] + totals["left_out"]
    assert totals["items"] == len(written.texts)


@both_formats
def test_a_held_out_split_and_pairs_about_one_medium(tmp_path, to):
    files = [f"{i}.{kind}" for kind in ("png", "wav", "mp4") for i in range(5)]
    for kind in ("png", "wav", "mp4"):
        media(tmp_path, *(name for name in files if name.endswith(kind)))
    rows = [{"file": name, "caption": f"{name} {c}"} for name in files for c in "abc"]
    in_lines(tmp_path, "all.jsonl", rows)
    source = CaptionFolder(tmp_path, "all.jsonl", val_fraction=0.4)
    totals = check_equal(source, tmp_path / "out", to, rows=10)
    assert (totals["written"], totals["items"]) == (45, 45)
    assert totals["samples"] < 30
    assert totals["shards"] > 2
    assert min(len(source.read(split)) for split in ("train", "val")) > 3


@both_formats
def test_splits_of_the_data_set_and_rows_of_both_and_of_none(tmp_path, to):
    media(tmp_path, *(f"{i}.png" for i in range(5)))
    splits = {0: "train", 1: "val", 2: "test", 3: "restval"}
    rows = [{"file": f"{i}.png", "caption": str(i), **({"split": splits[i]} if i in splits else {})} for i in range(5)]
    source = DataFiles(tmp_path, [in_lines(tmp_path, "all.jsonl", rows)])
    totals = convert(source, tmp_path / "out", to)
    again = read_back(source, tmp_path / "out", to)
    assert {pair.caption for pair in again.read("train")} == {"0", "3", "4"}
    assert {pair.caption for pair in again.read("val")} == {"1", "4"}
    assert [totals[key] for key in ("rows", "written", "skipped", "left_out")] == [5, 4, 0, 1]


@both_formats
def test_official_pairs_with_their_exchanges_and_caption_embeddings(tmp_path, to):
    media(tmp_path, "images/0.jpg", "images/1.jpg", "videos/2.mp4")
    rows = [
        {
            "output_image": ["0.jpg", "1.jpg"],
            "image_captions": [" A cat.\n", "A dog."],
            "image_caption_embeddings": ["0.npy", "1.npy"],
            "conversations": exchange("Draw a cat and a dog.", "Here they are."),
        },
        {"input_video": "2.mp4", "conversations": exchange("What is it?", "A ball.")},
    ]
    (tmp_path / "embed").mkdir()
    for i in range(2):
        np.save(tmp_path / "embed" / f"{i}.npy", np.full((2, 3), i / 7, np.float32))
    source = OfficialJSON(tmp_path, [in_json(tmp_path, "x_generation.json", rows)])
    assert source.read("train")[0].caption == " A cat.\n"
    totals = check_equal(source, tmp_path / "out", to)
    assert (totals["written"], totals["samples"]) == (2, 3)


@both_formats
def test_media_of_the_pocket_world_are_written_without_loss(tmp_path, to):
    for source in (PocketWorld(3, 2), PocketDialogues(1, 1)):
        folder = tmp_path / type(source).__name__
        totals = convert(source, folder, to)
        again = read_back(source, folder, to)
        for split in ("train", "val"):
            items, copies = source.read(split), again.read(split)
            assert [arrays(item) for item in copies] == [arrays(item) for item in items]
            assert _texts(copies) == _texts(items)
        assert totals["attributes"] == totals["items"] == totals["rows"]


def _texts(items):
    if isinstance(items[0], Dialogue):
        return [[getattr(p, "text", getattr(p, "caption", None)) for m in i.messages for p in m.parts] for i in items]
    return [(i.caption, i.instruction, i.question, i.response, i.description) for i in items]


class Given(Source):
    """A source of given items."""

    def __init__(self, *items, on_error="raise"):
        self.given, self.on_error = items, on_error

    def validates_on_training(self):
        return True

    def read(self, split):
        self.report = RowReport("given", len(self.given))
        return list(self.given)


@both_formats
def test_captions_alone_depth_clips_and_equal_media_in_a_dialogue(tmp_path, to):
    names = media(tmp_path, "a.png", "b.mp4", "c.wav")
    np.save(tmp_path / "d.npy", np.ones((2, 3), np.float32))
    image, video, sound = (
        Media(modality, tmp_path / name)
        for modality, name in zip((Modality.IMAGE, Modality.VIDEO, Modality.AUDIO), names, strict=True)
    )
    pairs = [
        CaptionedPair("0", Modality.DEPTH, "A hall.", Media(Modality.DEPTH, tmp_path / "d.npy")),
        CaptionedPair("1", Modality.AUDIO, "Rain."),
        CaptionedPair("2", Modality.AUDIO, "Wind."),
        CaptionedPair("3", Modality.VIDEO, "A ball.", Media(Modality.VIDEO, video.source, start=0.0, end=0.5)),
        CaptionedPair("4", Modality.AUDIO, "Beep.", Media(Modality.AUDIO, sound.source, end=0.05)),
    ]
    totals = check_equal(Given(*pairs), tmp_path / "pairs", to)
    assert totals["samples"] == 5
    clip = Media(Modality.VIDEO, video.source, start=0.5)
    shown = (MediaPart(Modality.IMAGE, image), MediaPart(Modality.VIDEO, clip), MediaPart(Modality.IMAGE, image))
    talk = Dialogue(
        "0",
        (
            Message("system", (TextPart("Be brief."),)),
            Message("user", (*shown, TextPart("Draw it "), TextPart("twice."))),
            Message("assistant", (MediaPart(Modality.IMAGE, None, "A."), MediaPart(Modality.IMAGE, image, "B."))),
        ),
    )
    check_equal(Given(talk), tmp_path / "talks", to)
    if to == "tar":
        assert (tmp_path / "talks" / "00000.tar").read_bytes().count(image.source.read_bytes()) == 1


@both_formats
def test_media_inside_other_files_and_shards_as_the_source(tmp_path, to):
    media(tmp_path, "a.png", "b.png")
    talk = messages("<image>What is it?", "A ball.")
    rows = [
        {"messages": talk, "images": [name], "split": split} for name, split in (("a.png", "train"), ("b.png", "val"))
    ]
    source = DataFiles(tmp_path, [in_lines(tmp_path, "t.jsonl", rows)], on_error="skip", name="talks")
    convert(source, tmp_path / "0", "parquet")
    held = read_back(source, tmp_path / "0", "parquet")
    check_equal(held, tmp_path / "1", "tar")
    shards = [str(tmp_path / "1" / split / "*.tar") for split in ("train", "val")]
    streamed = StreamedShards(shards[:1], shards[1:], folder=tmp_path / "shards")
    check_equal(streamed, tmp_path / "2", to)
    assert [content(i) for i in streamed.read("val")] == [content(i) for i in source.read("val")]
    totals = convert(StreamedShards(shards, folder=tmp_path / "shards"), tmp_path / "3", to)
    assert (totals["rows"], totals["written"]) == (2, 2)
    again = read_back(held, tmp_path / "1")
    assert (again.name, again.on_error) == ("talks", "skip")


def test_equal_media_are_stored_once_per_row_group_of_a_parquet_file(tmp_path):
    noise = np.random.default_rng(0).bytes(100_000)
    (tmp_path / "a.png").write_bytes(noise)
    talk = messages("<image>What is it?", "Noise.")
    rows = [{"messages": talk, "images": ["a.png"]} for _ in range(30)]
    source = DataFiles(tmp_path, [in_lines(tmp_path, "t.jsonl", rows)])
    totals = check_equal(source, tmp_path / "out", "parquet", check=False)
    assert totals["bytes"] < 200_000


def test_other_programs_read_the_shards(tmp_path):
    from datasets import load_dataset
    from webdataset import WebDataset

    media(tmp_path, "a.png", "b.png")
    rows = [{"file": f"{name}.png", "caption": f"{name}?"} for name in "ab"]
    source = DataFiles(tmp_path, [in_lines(tmp_path, "all.jsonl", rows)])
    for to in ("tar", "parquet"):
        convert(source, tmp_path / to, to)
    samples = list(WebDataset(str(tmp_path / "tar" / "00000.tar"), shardshuffle=False))
    assert [(s["txt"].decode(), s["png"]) for s in samples] == [
        (f"{name}?", (tmp_path / f"{name}.png").read_bytes()) for name in "ab"
    ]
    assert json.loads(samples[0]["json"]) == {"modality": "image", "captions": ["a?"]}
    files = str(tmp_path / "parquet" / "*.parquet")
    table = load_dataset("parquet", data_files=files, cache_dir=str(tmp_path / "cache"))["train"]
    assert table["caption"][:] == ["a?", "b?"]
    assert table[0]["image"].size == (16, 16)
