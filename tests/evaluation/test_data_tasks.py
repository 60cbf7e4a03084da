"""Data files in their published forms are asked about and scored as they are read in training."""

import json
from collections import defaultdict
from pathlib import Path

import published
import published_captions
import pytest
from published_captions import BALL, CAPTIONED, LAKE, QUESTIONS

from nextgpt_pl.datamodules import CaptionFolder, DataFiles
from nextgpt_pl.errors import UserError
from nextgpt_pl.evaluation import (
    AudioCaps,
    Captioning,
    CaptionManifest,
    CocoCaptions,
    Editing,
    Generating,
    MsrVtt,
    QuestionAnswering,
)
from nextgpt_pl.evaluation.run import items_of

#: the rows of these files are for training
_TRAINING = {"split": {"test": ["train", "restval"]}}
_OF_SPLITS = ("karpathy", "karpathy_flickr30k", "msrvtt")


def _captioning(data, **options):
    return Captioning("tell", data, [], "What is it?", **options)


def _items(task):
    return [item for _, item in items_of(task)[0]]


def _shown(item):
    """The media of an item's last question."""
    return [part[part["type"]] for part in item.messages[-1]["content"] if part["type"] != "text"]


def _described(task):
    """The medium of each item, and its references."""
    return [(Path(_shown(item)[0].source).name, item.references) for item in _items(task)]


@pytest.mark.parametrize("name", CAPTIONED)
def test_training_and_evaluation_read_the_same_captions(tmp_path, name):
    written = CAPTIONED[name](tmp_path)
    trained = defaultdict(list)
    for pair in DataFiles(tmp_path, written.files, **written.options).read("train"):
        trained[pair.media].append(pair.caption)
    chosen = {**written.options, **(_TRAINING if name in _OF_SPLITS else {})}
    items = _items(_captioning(DataFiles(tmp_path, written.files, **chosen)))
    assert [(_shown(item), list(item.references)) for item in items] == [([m], c) for m, c in trained.items()]
    assert [item.fault for item in items] == [None] * len(items)
    assert len({item.key for item in items}) == len(items)


@pytest.mark.parametrize("name", QUESTIONS)
def test_training_and_evaluation_read_the_same_questions(tmp_path, name):
    written = QUESTIONS[name](tmp_path)
    task = QuestionAnswering("ask", [], DataFiles(tmp_path, written.files, **written.options), prompt="{question}")
    dialogues = DataFiles(tmp_path, written.files, **written.options).read("train")
    for item, dialogue in zip(_items(task), dialogues, strict=True):
        *media, text = dialogue.messages[0].parts
        assert [*_shown(item), item.messages[0]["content"][-1]["text"]] == [*(p.media for p in media), text.text]
        assert dialogue.messages[1].parts[0].text in item.references


def test_the_test_images_of_karpathys_split_are_asked_about(tmp_path):
    rows = [
        {"filename": f"{n}.jpg", "imgid": n, "sentids": [n], "split": split, "sentences": [{"raw": f"A {split}."}] * 2}
        for n, split in enumerate(("test", "train", "val", "restval", "test"))
    ]
    published.in_json(tmp_path, "dataset_flickr30k.json", {"images": rows, "dataset": "flickr30k"})
    found, remarks = items_of(_captioning(CocoCaptions(tmp_path, "dataset_flickr30k.json", "images")))
    assert [(item.key, item.references) for _, item in found] == [(n, ("A test.", "A test.")) for n in ("0", "4")]
    assert remarks == {"are left out: they are for train": 2, "are left out: they are for val": 1}


def test_coco_is_asked_about_the_images_of_a_list(tmp_path):
    written = published_captions.coco(tmp_path)
    task = _captioning(CocoCaptions(tmp_path))
    assert _described(task) == [
        (Path(written.media[0]).name, (BALL, LAKE)),
        (Path(written.media[2]).name, ("another",)),
    ]
    task = _captioning(CocoCaptions(tmp_path, ids="ids.txt"))
    assert task.missing() == [f"ids: {tmp_path}/ids.txt: no such file"]
    (tmp_path / "ids.txt").write_text("43\n99\n")
    assert task.missing() == []
    found, remarks = items_of(task)
    assert [item.key for _, item in found] == ["43"]
    assert remarks == {"are left out: their id is not in ids.txt": 1}


@pytest.mark.parametrize(("split", "expected"), [("test", ["video2", "video3"]), ("validate", ["video1"])])
def test_the_videos_of_a_split_of_msrvtt(tmp_path, split, expected):
    videos = [{"video_id": f"video{n}", "split": s} for n, s in enumerate(("train", "validate", "test", "test"))]
    sentences = [{"video_id": f"video{n}", "caption": f"about {n}", "sen_id": n} for n in (0, 1, 2, 3, 2)]
    published.in_json(tmp_path, "MSRVTT_data.json", {"videos": videos, "sentences": sentences})
    task = _captioning(MsrVtt(tmp_path, "MSRVTT_data.json", "all", split))
    assert [item.key for item in _items(task)] == expected
    assert _described(task)[0][1] == (("about 2", "about 2") if split == "test" else ("about 1",))


def test_the_table_of_jsfusion(tmp_path):
    written = published_captions.msrvtt_jsfusion(tmp_path)
    assert _described(_captioning(MsrVtt(tmp_path, written.files[0], "videos"))) == [("video7020.mp4", (BALL,))]


def test_the_rows_of_an_audiocaps_clip_are_one_item(tmp_path):
    published.media(tmp_path, "test/abc_30.wav", "test/xyz.wav")
    rows = ["audiocap_id,youtube_id,start_time,caption", '1,abc,30,"A dog, barking"', "2,xyz,0,Rain", "3,abc,30,Barks"]
    published.in_lines(tmp_path, "test.csv", rows)
    expected = [("abc_30.wav", ("A dog, barking", "Barks")), ("xyz.wav", ("Rain",))]
    assert _described(_captioning(AudioCaps(tmp_path))) == expected
    published.in_lines(tmp_path, "test.csv", rows[1:])
    assert _described(_captioning(AudioCaps(tmp_path))) == expected
    named = _captioning(AudioCaps(tmp_path, name="{youtube_id}_{start_time}.wav"))
    assert [name for name, _ in _described(named)] == ["abc_30.wav", "xyz_0.wav"]


def test_five_captions_of_clotho_are_one_item(tmp_path):
    written = published_captions.clotho(tmp_path)
    task = _captioning(AudioCaps(tmp_path, written.files[0], "audios", "{file_name}"))
    assert _described(task) == [("Hum 0, with comma.wav", tuple(written.texts))]


def test_a_folder_with_captions_in_side_files(tmp_path):
    published.media(tmp_path, "a.png")
    (tmp_path / "a.txt").write_text(BALL)
    assert _described(_captioning(CaptionFolder(tmp_path))) == [("a.png", (BALL,))]


def test_media_of_the_same_name_have_keys_of_their_own(tmp_path):
    for folder in ("a", "b"):
        published.media(tmp_path, f"{folder}/0.png")
        published.in_lines(tmp_path, f"{folder}/rows.jsonl", [{"file_name": "0.png", "text": f"in {folder}"}] * 2)
    items = _items(_captioning(DataFiles(tmp_path, ["*/rows.jsonl"])))
    assert [(item.key, item.references) for item in items] == [
        ("0.png", ("in a", "in a")),
        ("0.png (1)", ("in b", "in b")),
    ]


def test_questions_of_msvd_have_their_answers_beside_them(tmp_path):
    published.media(tmp_path, "videos/1.mp4")
    row = {"answer": "someone", "id": 0, "question": "who moves?", "video_id": 1}
    published.in_json(tmp_path, "test_qa.json", [row])
    for annotations in ("test_qa.json", None):
        task = QuestionAnswering("qa", [], None, tmp_path, "test_qa.json", annotations, "videos/{id}.mp4")
        (item,) = _items(task)
        assert item.messages[0]["content"][1]["text"] == "who moves? Answer in one word or a short phrase."
        assert (_shown(item)[0].source, item.references) == (tmp_path / "videos/1.mp4", ("someone",))
        assert task.missing() == []


@pytest.mark.parametrize("key", ["id", "image_id", "medium_id"])
def test_questions_take_all_the_annotators_answers(tmp_path, key):
    written = published_captions.vqav2(tmp_path)
    file = f"images/COCO_val2014_{{{key}:012d}}.jpg"
    task = QuestionAnswering("qa", [], None, tmp_path, written.files[0], "annotations.json", file)
    assert [(_shown(i)[0].source, i.references) for i in _items(task)] == [
        (tmp_path / written.media[0], ("red", "blue", "red")),
        (tmp_path / written.media[1], ("2", "2", "3")),
    ]


def test_questions_without_answers_are_counted(tmp_path):
    written = published_captions.vqav2_test(tmp_path)
    task = QuestionAnswering("qa", [], DataFiles(tmp_path, written.files))
    assert items_of(task) == ([], {"are left out: their questions have no answers, so that no reply can be scored": 2})


def test_a_conversation_is_asked_for_its_last_reply(tmp_path):
    turns = [("human", "Hi"), ("gpt", "Hello."), ("human", "<image>\nWhat is it?"), ("gpt", "A ball.")]
    rows = [
        {"image": published.media(tmp_path, "0.png")[0], "conversations": [{"from": f, "value": v} for f, v in turns]},
        {"conversations": [{"from": f, "value": v} for f, v in turns[:1]]},
    ]
    published.in_lines(tmp_path, "talk.jsonl", rows)
    found, remarks = items_of(
        QuestionAnswering("qa", [], DataFiles(tmp_path, ["talk.jsonl"]), prompt="Say: {question}")
    )
    ((_, item),) = found
    assert [message["role"] for message in item.messages] == ["user", "assistant", "user"]
    assert [m.source for m in _shown(item)] == [tmp_path / "0.png"]
    assert item.messages[-1]["content"][-1]["text"] == "Say: \nWhat is it?"
    assert (item.key, item.references) == ("talk.jsonl, row 0", ("A ball.",))
    assert sum(remarks.values()) == 1


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("{", "line 2: unreadable JSON"),
        ({"file": "0.png"}, "the row has no column 'captions'"),
        ({"file": "../0.png", "captions": ["x"]}, "leaves its folder"),
        ({"file": "0.png", "captions": [" "]}, "the caption is empty"),
        ({"file": "0.png", "captions": 7}, "captions=7: a text is expected"),
    ],
)
def test_a_broken_row_is_an_item_with_its_fault(tmp_path, row, message):
    published.media(tmp_path, "1.png")
    published.in_lines(tmp_path, "captions.jsonl", [{"file": "1.png", "captions": "x"}, row])
    right, broken = _items(_captioning(CaptionManifest(tmp_path, "image")))
    assert (right.key, right.fault) == ("1.png", None)
    assert broken.key == "captions.jsonl, row 1"
    assert message in broken.fault


def test_rows_of_another_kind_say_which_task_reads_them(tmp_path):
    published.in_lines(tmp_path, "q.jsonl", [{"question": "2 + 2?", "answer": "4"}])
    (item,) = _items(_captioning(DataFiles(tmp_path, ["q.jsonl"])))
    assert "QuestionAnswering reads such rows" in item.fault
    published.in_lines(tmp_path, "c.jsonl", [{"file": published.media(tmp_path, "0.png")[0], "caption": "x"}])
    (item,) = _items(QuestionAnswering("qa", [], DataFiles(tmp_path, ["c.jsonl"])))
    assert "Captioning reads such rows" in item.fault


def test_edits_are_read_from_files_of_any_format(tmp_path):
    published.media(tmp_path, "0.png", "1.png")
    rows = [{"file": "0.png", "instruction": "Make it red.", "caption": "a red ball"}]
    rows += [{**rows[0], "target": "1.png"}, {**rows[0], "file": "0.txt"}, {"file": "0.png"}]
    published.in_lines(tmp_path, "edits.jsonl", [*rows, "[]", "{"])
    first, second, *broken = _items(Editing("edit", tmp_path, []))
    assert (first.key, first.modalities, first.references) == ("0/0.png", ("image",), ("a red ball",))
    assert [i.reference.source for i in (first, second)] == [tmp_path / "0.png", tmp_path / "1.png"]
    assert [item.key for item in broken] == [f"edits.jsonl, row {n}" for n in (2, 3, 4, 5)]
    for item, fault in zip(broken, ("'0.txt'", "'instruction' is missing", "got []", "unreadable JSON"), strict=True):
        assert fault in item.fault
    published.in_lines(tmp_path, "edits.csv", ["file,instruction,caption", "0.png,Make it red.,a red ball"])
    assert _items(Editing("edit", tmp_path, [], "edits.csv")) == [first]


def test_mistakes_in_the_arguments_are_named(tmp_path):
    data = DataFiles(tmp_path, ["x.json"])
    with pytest.raises(UserError, match="modality='smell': known are image"):
        CaptionManifest(tmp_path, "smell")
    with pytest.raises(UserError, match=r"task 'make': prompt='Draw\.': it must contain {caption}"):
        Generating("make", data, [], "Draw.")
    for arguments in ({}, {"root": tmp_path}, {"data": data, "root": tmp_path, "questions": "q.json"}):
        with pytest.raises(UserError, match="task 'qa': either data is expected, or root and questions"):
            QuestionAnswering("qa", [], **arguments)


def test_all_that_is_missing_is_listed(tmp_path):
    task = _captioning(CocoCaptions(tmp_path / "nowhere", ids="ids.txt"))
    assert task.missing() == [f"root='{tmp_path}/nowhere': no such folder"]
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "captions_val2015.json").write_text("{}")
    assert _captioning(CocoCaptions(tmp_path)).missing() == [
        "files: annotations/captions_val2014.json: no such file; did you mean 'annotations/captions_val2015.json'?",
        f"media: image: {tmp_path}/val2014: no such folder",
    ]
    published.in_json(tmp_path, "q.json", [])
    task = QuestionAnswering("qa", [], None, tmp_path, "q.json", "none.json")
    assert [message.partition(";")[0] for message in task.missing()] == ["files: none.json: no such file"]
    assert Editing("edit", tmp_path, []).missing() == [f"edits: {tmp_path}/edits.jsonl: no such file"]


def test_a_count_stops_behind_that_many_items(tmp_path):
    rows = [json.dumps({"file": f"{n}.png", "captions": "x"}) for n in range(5)]
    published.in_lines(tmp_path, "captions.jsonl", [*rows[:2], "{", *rows[2:]])
    found, _ = items_of(_captioning(CaptionManifest(tmp_path, "image"), count=4))
    assert [(number, item.key) for number, item in found] == [
        (0, "0.png"),
        (1, "1.png"),
        (2, "captions.jsonl, row 2"),
        (3, "2.png"),
    ]


def test_clips_of_one_file_and_captions_alone_are_items_of_their_own(tmp_path):
    published.media(tmp_path, "0.mp4")
    rows = [
        {"modality": "video", "captions": [f"clip {n}"], "video": "0.mp4", "start": n, "end": n + 1} for n in (0, 1)
    ]
    rows += [{"modality": "video", "captions": ["a caption alone"]}] * 2
    published.in_lines(tmp_path, "pairs.jsonl", rows)
    items = _items(Generating("make", DataFiles(tmp_path, ["pairs.jsonl"]), [], "Draw {caption}"))
    assert [item.references for item in items] == [("clip 0",), ("clip 1",), *[("a caption alone",)] * 2]
    assert [item.reference and (item.reference.start, item.reference.end) for item in items] == [
        (0, 1),
        (1, 2),
        None,
        None,
    ]
    assert len({item.key for item in items}) == 4
    told = _items(_captioning(DataFiles(tmp_path, ["pairs.jsonl"])))
    assert [item.fault for item in told] == [None, None, *["the row has a caption and no medium"] * 2]
