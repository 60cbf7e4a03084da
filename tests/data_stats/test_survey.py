import json
import re
from threading import Event

import numpy as np
import pytest
import soundfile
import tiny
from PIL import Image
from shards import write_shard
from video_files import numbered_frames, write_video

from nextgpt_pl.data_stats import Survey, write_page
from nextgpt_pl.data_stats import rows as rows_of
from nextgpt_pl.datamodules import DataFiles, Dialogues, StreamedShards

LONG = " ".join(f"word{i}" for i in range(60))
HOSTILE = "<script>alert('x')</script> & <img src=http://example.org/x.png>"
# image, caption, split
PAIRS = [
    ("0.png", "A red circle.", "train"),
    ("0.png", "Something round and red.", "train"),
    ("1.png", "A red circle.", "train"),
    ("2.png", LONG, "train"),
    ("3.png", LONG.replace("word30", "another"), "train"),
    ("same_as_3.png", HOSTILE, "train"),
    ("broken.png", "A broken file.", "train"),
    ("0.png", "The circle again.", "val"),
    ("same_as_1.png", "A red circle.", "val"),
    ("4.png", "A new one.", "val"),
]


@pytest.fixture
def folder(tmp_path):
    """Ten captioned images and three dialogues, with planted duplicates and overlaps of the splits."""
    root = tmp_path / "data"
    root.mkdir()
    for index in range(5):
        Image.fromarray(np.full((20 + index, 24, 3), 40 * index, np.uint8)).save(root / f"{index}.png")
    (root / "same_as_3.png").write_bytes((root / "3.png").read_bytes())
    (root / "same_as_1.png").write_bytes((root / "1.png").read_bytes())
    (root / "broken.png").write_bytes(b"no image")
    soundfile.write(root / "a.wav", np.zeros(12_000, np.float32), 8000)
    write_video(root / "v.mp4", numbered_frames(20), fps=10)
    rows = [dict(zip(("image", "caption", "split"), pair, strict=True)) for pair in PAIRS]
    (root / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    reply = {"type": "image", "image": "1.png", "caption": "A square."}
    talks = [
        [("user", "<audio>What do you hear?"), ("assistant", "Silence."), ("user", "Draw it."), ("assistant", [reply])],
        [("user", "<video>What moves?"), ("assistant", "A bar.")],
        [("system", "Be brief."), ("user", "What is one plus one?"), ("assistant", "two " * 600)],
    ]
    media = [{"audios": ["a.wav"]}, {"videos": ["v.mp4"]}, {}]
    lines = [
        {"messages": [{"role": r, "content": c} for r, c in talk], **of_talk, "split": "train"}
        for talk, of_talk in zip(talks, media, strict=True)
    ]
    (root / "talks.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return root


@pytest.fixture
def data(folder, tiny_models):
    split = {"column": "split", "train": "train", "val": "val"}
    sources = [
        DataFiles(folder, ["pairs.jsonl"], split=split, name="pairs"),
        DataFiles(folder, ["talks.jsonl"], split=split, name="talks", ignore=["split"]),
    ]
    module = Dialogues(sources, batch_size=2, max_length=512, weights={"talks": 3.0})
    return module.with_renderer(tiny.stage_and_data("InstructionTuning", tiny_models, 2)[0].renderer)


def _numbers(data, folder, workers=0, **options):
    survey = Survey(data, folder, workers, **options)
    survey.run(Event())
    return survey, survey.numbers()


@pytest.mark.parametrize("workers", [0, 2])
def test_rows_lengths_and_media_are_counted(data, folder, tmp_path, workers, monkeypatch):
    monkeypatch.setattr(rows_of, "_CHUNK", 3)
    _, numbers = _numbers(data, tmp_path, workers)
    assert numbers["complete"]
    train, val, talks, no_talks = numbers["parts"]
    assert [(p["source"], p["split"], p["rows"], p["read"]) for p in numbers["parts"]] == [
        *(("pairs", "train", 7, 7), ("pairs", "val", 3, 3)),
        *(("talks", "train", 3, 3), ("talks", "val", 0, 0)),
    ]
    assert train["kinds"] == {"image pairs": 7}
    assert talks["kinds"] == {"text dialogues": 2, "image dialogues": 1}
    tokens = [len(data.conversation()(item).input_ids) for item in data.sources[1].read("train")]
    assert (talks["tokens"]["min"], talks["tokens"]["max"]) == (min(tokens), max(tokens))
    assert (talks["tokens"]["mean"], talks["too_long"]) == (pytest.approx(np.mean(tokens)), 1)
    assert max(tokens) > 512 > sorted(tokens)[1]
    assert (talks["turns"]["min"], talks["turns"]["max"], talks["turns"]["mean"]) == (2, 4, pytest.approx(8 / 3))
    assert (talks["words"]["min"], talks["words"]["max"]) == (4, 2 + 5 + 600)
    assert no_talks["tokens"] == {"count": 0}
    assert train["media"]["output"] == {"image": 7}
    assert (train["media"]["input"], train["media"]["distinct"]) == ({}, 6)
    assert (talks["media"]["input"], talks["media"]["output"]) == ({"video": 1, "audio": 1}, {"image": 1})
    for key in ("rows_per_medium", "captions_per_medium"):
        assert (train["media"][key]["count"], train["media"][key]["max"]) == (6, 2)
    assert (val["media"]["rows_per_medium"]["count"], val["media"]["rows_per_medium"]["max"]) == (3, 1)


def test_files_are_opened_and_measured(data, folder, tmp_path):
    _, numbers = _numbers(data, tmp_path)
    train, _, talks, _ = numbers["parts"]
    assert (train["files"]["read"], train["files"]["unreadable"]["count"]) == (6, 1)
    assert "broken.png: not a readable image" in train["files"]["unreadable"]["first"][0]
    images = train["files"]["properties"]["image"]
    assert (images["width"]["count"], images["width"]["min"], images["width"]["max"]) == (5, 24, 24)
    assert (images["height"]["min"], images["height"]["max"]) == (20, 23)
    sizes = [(folder / f"{name}.png").stat().st_size for name in ("0", "1", "2", "3", "same_as_3")]
    assert images["size"]["mean"] == pytest.approx(np.mean(sizes))
    sound, video = talks["files"]["properties"]["audio"], talks["files"]["properties"]["video"]
    assert (sound["seconds"]["max"], sound["rate"]["max"]) == (1.5, 8000)
    assert (video["seconds"]["max"], video["rate"]["max"]) == (pytest.approx(2.0), 10)
    assert (video["width"]["max"], video["height"]["max"]) == (64, 48)
    assert "width" not in sound


def test_media_that_are_made_on_demand_are_not_made_to_be_counted(tmp_path, tiny_models, monkeypatch):
    data = tiny.stage_and_data("InstructionTuning", tiny_models, 2, train_size=3)
    data = data[1].with_renderer(data[0].renderer)
    monkeypatch.setattr("nextgpt_pl.data_stats.survey.read_media", lambda *_: [])
    monkeypatch.setattr("nextgpt_pl.pocket.world.render.render_audio", lambda *_: pytest.fail("made"))
    _, numbers = _numbers(data, tmp_path)
    media = numbers["parts"][0]["media"]
    count = sum(n for side in ("input", "output") for n in media[side].values())
    assert media["output"]["audio"] > 3
    assert media["distinct"] == count > 20


def test_duplicates_and_overlaps_of_the_splits_are_found(data, folder, tmp_path):
    _, numbers = _numbers(data, tmp_path)
    train, val, *_ = numbers["parts"]
    assert (train["tokens"]["count"], train["texts"]["distinct"]) == (7, 6)
    assert train["texts"]["most_frequent"] == [{"text": "A red circle.", "rows": 2}]
    assert train["texts"]["near_duplicates"] == 1
    (similar,) = train["texts"]["similar"]
    assert "another" in similar["text"]
    assert "word30" in similar["earlier"]
    assert train["files"]["distinct_contents"] == 4
    assert train["files"]["most_frequent"] == [{"medium": str(folder / "3.png"), "files": 2}]
    assert (val["texts"]["near_duplicates"], val["files"]["distinct_contents"]) == (0, 3)
    assert train["in_training"] is None
    leak, no_leak = val["in_training"], numbers["parts"][3]["in_training"]
    assert (leak["texts"], leak["text_examples"]) == (1, ["A red circle."])
    assert (leak["media"], leak["media_examples"]) == (1, [str(folder / "0.png")])
    assert leak["contents"] == 2
    assert leak["content_examples"] == [str(folder / "0.png"), str(folder / "same_as_1.png")]
    assert (no_leak["texts"], no_leak["media"], no_leak["contents"]) == (0, 0, 0)


def test_the_mixture_is_what_the_sampler_draws(data, tmp_path):
    _, numbers = _numbers(data, tmp_path)
    mixture = {group["group"]: group for group in numbers["mixture"]}
    assert {name: (g["items"], g["weight"], g["share"]) for name, g in mixture.items()} == {
        "pairs image": (7, 1.0, pytest.approx(1 / 7)),
        "talks text": (2, 3.0, pytest.approx(3 / 7)),
        "talks image": (1, 3.0, pytest.approx(3 / 7)),
    }
    loader = data.train_dataloader()
    sampler, groups, drawn = loader.batch_sampler, loader.dataset.groups, []
    for epoch in range(300):
        sampler.set_epoch(epoch)
        drawn += [" ".join(groups[i]) for batch in sampler for i in batch]
    for name, group in mixture.items():
        assert drawn.count(name) / len(drawn) == pytest.approx(group["share"], abs=0.03)
        assert group["draws_per_item"] == pytest.approx(group["share"] * 10 / group["items"])


def test_sources_of_one_name_are_told_apart(folder, tiny_models, tmp_path):
    (folder / "more.jsonl").write_text(json.dumps({"instruction": "Say it.", "output": "It."}))
    sources = [DataFiles(folder, [name], name="x") for name in ("pairs.jsonl", "more.jsonl")]
    renderer = tiny.stage_and_data("InstructionTuning", tiny_models, 2)[0].renderer
    survey, numbers = _numbers(Dialogues(sources, weights={"x": 2.0}).with_renderer(renderer), tmp_path, sample=1)
    assert [part["source"] for part in numbers["parts"]] == ["x (1)", "x (1)", "x (2)"]
    assert {group["group"] for group in numbers["mixture"]} == {"x image", "x text"}
    assert {group["weight"] for group in numbers["mixture"]} == {2.0}
    page = write_page(survey, numbers, "t")
    assert "x (1), val" in page
    assert "x (2), train: validation has the same items: val_fraction is 0" in page


def test_a_sample_of_the_media_is_read_and_the_page_says_so(data, tmp_path):
    survey, numbers = _numbers(data, tmp_path, sample=2)
    assert [part["files"]["read"] for part in numbers["parts"]] == [2, 2, 2, 0]
    page = write_page(survey, numbers, "t")
    assert "13 of 13 rows were read, and the files of 6 of 12 media, at most 2 of a source and split" in page


def test_streamed_shards_are_counted(tmp_path, tiny_models):
    write_shard(tmp_path / "0.tar", range(5), broken=[3])
    write_shard(tmp_path / "1.tar", range(4, 7))
    source = StreamedShards([str(tmp_path / "0.tar")], [str(tmp_path / "1.tar")], folder=tmp_path / "shards")
    renderer = tiny.stage_and_data("InstructionTuning", tiny_models, 2)[0].renderer
    _, numbers = _numbers(Dialogues([source]).with_renderer(renderer), tmp_path)
    train, val = numbers["parts"]
    assert [(p["read"], p["media"]["input"], p["files"]["read"]) for p in (train, val)] == [
        (5, {"image": 5}, 5),
        (3, {"image": 3}, 3),
    ]
    assert train["files"]["unreadable"]["count"] == 1
    assert "0.tar: 000003.png: not a readable image" in train["files"]["unreadable"]["first"][0]
    assert (val["in_training"]["texts"], val["in_training"]["media"], val["in_training"]["contents"]) == (1, 0, 1)


def test_rows_that_cannot_be_rendered_are_counted(data, tmp_path, monkeypatch):
    monkeypatch.setattr(data.conversation(), "slot_lengths", {})  # no encoder shows media to the LLM
    _, numbers = _numbers(data, tmp_path)
    unusable = numbers["parts"][2]["unusable"]
    assert unusable["count"] == 2
    assert "audio" in unusable["first"][0]
    assert numbers["parts"][2]["tokens"]["count"] == 1


def test_an_interruption_keeps_what_was_counted(data, tmp_path, monkeypatch):
    monkeypatch.setattr(rows_of, "_CHUNK", 2)
    stop, survey = Event(), Survey(data, tmp_path)
    part = survey.parts[0]
    add = part.add_rows
    monkeypatch.setattr(part, "add_rows", lambda *arguments: (add(*arguments), part.read < 4 or stop.set()))
    survey.run(stop)
    numbers = survey.numbers()
    assert not numbers["complete"]
    assert [(p["read"], p["tokens"]["count"]) for p in numbers["parts"]] == [(4, 4), (0, 0), (0, 0), (0, 0)]
    assert numbers["parts"][0]["texts"]["distinct"] == 3
    page = write_page(survey, numbers, "t")
    assert "The survey was interrupted: all numbers are of what was read until then. 4 of 13 rows were read" in page


def test_the_page_needs_no_other_file_and_is_escaped(data, tmp_path):
    page = write_page(*_numbers(data, tmp_path), HOSTILE)
    assert "<script" not in page
    assert "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt; &amp; &lt;img" in page
    sources = re.findall(r"(?:src|href)\s*=\s*['\"]?([^'\" >]*)", re.sub(r"&lt;.*?&gt;", "", page))
    assert len(sources) > 5
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    for words in ("A red circle.", "broken.png: not a readable image", "Silence.", "[video]"):
        assert words in page
