import json
import math
import re

import pytest
import tiny
from published import in_json, in_lines, media
from published_messages import MESSAGES
from published_talks import TALKS
from published_turns import exchange, messages, turns

from nextgpt_pl.datamodules import Dialogues, LLaVA
from nextgpt_pl.datamodules.data_files import DataFiles
from nextgpt_pl.datamodules.kinds import kind_code
from nextgpt_pl.errors import UserError
from nextgpt_pl.media.reading import array_of
from nextgpt_pl.samples import MediaPart
from nextgpt_pl.verbs.inspect import lines_of

FORMS = {**TALKS, **MESSAGES}
TEXTS = sorted(name for name in FORMS if name not in ("trl", "onevision", "shard"))


def _source(folder, written, **options):
    return DataFiles(folder, written.files, embeddings="compute", **{**written.options, **options})


@pytest.mark.parametrize("name", FORMS)
def test_turns_and_media_of_a_published_set(tmp_path, name):
    written = FORMS[name](tmp_path)
    source = _source(tmp_path, written)
    dialogues = source.read("train")
    assert [turns(dialogue) for dialogue in dialogues] == written.texts
    assert dialogues.kinds.tolist() == [kind_code(dialogue) for dialogue in dialogues]
    for dialogue in dialogues:
        for part in (part for message in dialogue.messages for part in message.parts):
            if isinstance(part, MediaPart) and part.media is not None:
                assert array_of(part.media)[0].size


@pytest.mark.parametrize(("key", "off", "on"), [("weight", 0, 1), ("loss", False, True)])
def test_turns_without_a_loss(tmp_path, key, off, on):
    said = [("user", "Hi"), ("assistant", "A"), ("user", "And?"), ("assistant", "B")]
    flags = {1: {key: off}, 3: {key: on}}
    rows = [
        {"messages": [{"role": role, "content": text, **flags.get(i, {})} for i, (role, text) in enumerate(said)]},
        {"conversations": [{"from": role, "value": text, **flags.get(i, {})} for i, (role, text) in enumerate(said)]},
    ]
    for number, row in enumerate(rows):
        (dialogue,) = DataFiles(tmp_path, [in_json(tmp_path, f"{number}.json", [row])]).read("train")
        assert [message.is_target for message in dialogue.messages] == [False, False, False, True]


@pytest.mark.parametrize("name", TEXTS)
def test_unknown_keys_are_refused_unless_they_are_ignored(tmp_path, name):
    written = FORMS[name](tmp_path)
    file = tmp_path / written.files[0]
    lines = file.suffix == ".jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()] if lines else json.loads(file.read_text())
    known = max(rows[0], key=len)
    rows[0][f"{known}x"] = 1
    (in_lines if lines else in_json)(tmp_path, file.name, rows)
    message = rf"row 0: key '{known}x' would not be read; did you mean '{known}'\?; ignore: \[{known}x\]"
    with pytest.raises(UserError, match=message):
        _source(tmp_path, written).read("train")
    ignored = _source(tmp_path, written, ignore=[f"{known}x"]).read("train")
    assert [turns(dialogue) for dialogue in ignored] == written.texts


@pytest.fixture(scope="module")
def stage(tiny_models):
    return tiny.stage_and_data("InstructionTuning", tiny_models, 2)[0]


@pytest.mark.parametrize("name", FORMS)
def test_a_batch_of_a_published_set_is_trained_on_and_printed(tmp_path, stage, name):
    data = Dialogues([_source(tmp_path, FORMS[name](tmp_path))], batch_size=8)
    trainer = tiny.quiet_trainer(tmp_path, max_steps=1, limit_val_batches=0, log_every_n_steps=1)
    trainer.fit(stage, datamodule=data)
    assert trainer.global_step == 1
    assert math.isfinite(trainer.callback_metrics["train/loss"])
    batch = next(iter(data.train_dataloader()))
    printed = "\n".join(lines_of(batch, stage.renderer, colour=False))
    assert all(key in printed for key in batch.keys)
    assert sum(len(list(slots)) for slots in batch.slots.values()) == len(re.findall(r"<\w+ x\d+>", printed))


def _read(folder, *rows, source=DataFiles, **options):
    return source(folder, [in_json(folder, "rows.json", list(rows))], **options).read("train")


IMAGE = {"type": "image", "image": "0.jpg"}
TEXT = {"type": "text", "text": "What?"}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            {"messages": messages([{"type": "file", "file": {"file_id": "x"}}], "A")},
            "a part of type 'file' is not read",
        ),
        (
            {"messages": messages([{"type": "imge", "image": "0.jpg"}], "A")},
            "type 'imge' is not read; did you mean 'image'",
        ),
        ({"messages": messages([{**IMAGE, "image": "https://x.org/0.jpg"}], "A")}, "not fetched from the net"),
        ({"messages": messages([{**IMAGE, "max_pixels": 1}], "A")}, "'image': key 'max_pixels' would not be read"),
        ({"messages": messages([{**IMAGE, "path": "1.jpg"}], "A")}, "one of image, path is expected"),
        ({"messages": messages([{"type": "image"}, TEXT], "A")}, "has <image>, but the row gives no such medium"),
        (
            {"messages": messages("Draw.", [IMAGE])},
            "the assistant's image has no caption.*'caption' in its turn or part",
        ),
        ({"messages": messages("Draw.", "<image>"), "images": ["0.jpg"]}, "no caption.*a list image_captions"),
        (
            {"messages": messages("Draw.", [{**IMAGE, "caption": " "}])},
            "the caption is empty: there is nothing to learn",
        ),
        (
            {"messages": messages("<image>", "<image>"), "image": "0.jpg", "image_captions": [""]},
            "the caption is empty",
        ),
        ({"messages": messages("What?", None)}, "a message's content is None"),
        ({"messages": [{"role": "tool", "content": "1"}]}, "a turn from 'tool'.*known speakers are human, user"),
        ({"messages": messages("Hi"), "tools": "[]"}, "key 'tools' would not be read"),
        ({"messages": [{"role": "user", "content": "Hi", "name_": 0}]}, "a message's key 'name_' would not be read"),
        (
            {"messages": [*messages("Hi"), {"role": "assistant", "content": "A", "weight": 0}]},
            "every turn of the assistant has the weight 0",
        ),
        (
            {"messages": messages("Hi", "A"), "images": ["0.jpg", "1.jpg"]},
            "2 input and 0 output media have no placeholder",
        ),
        ({"messages": "Hi"}, "messages='Hi': a list of turns is expected"),
        ({"messages": ["Hi"]}, "a turn is 'Hi': an object with the key 'role' is expected"),
        ({"conversations": [{"from": "function_call", "value": "x"}]}, "a turn from 'function_call'"),
        (
            {"conversations": [{"from": "human", "value": "x", "weights": 0}]},
            "a turn's key 'weights' would not be read",
        ),
        (
            {"conversations": [{"from": "human", "value": "x", "weight": 0.5}]},
            "a turn's weight is 0.5: 0 or 1 is expected",
        ),
        ({"conversations": [{"from": "human", "value": 1}]}, "value=1: a text is expected"),
        (
            {"system": "A", "conversations": [{"from": "system", "value": "B"}]},
            "a system prompt in 'system' and another one in a turn",
        ),
        (
            {"conversations": exchange("Hi", "A"), "image": ["0.jpg"], "image_captions": ["a"]},
            "1 input and 1 output media",
        ),
        ({"conversations": exchange("Hi", "A"), "input_images": "0.jpg"}, "'input_images'.*did you mean 'input_image'"),
        ({"conversations": exchange("<image>", "A"), "image": "9.jpg"}, r"missing image file .*9\.jpg"),
        ({"query": "Hi", "response": "A", "history": [["Q"]]}, "history: a list of pairs of question and answer"),
        ({"instruction": "", "input": "", "output": "A"}, "neither instruction nor input has a text"),
        ({"instruction": "Hi", "output": ["A"]}, r"output=\['A'\]: a text is expected"),
        ({"video": "a.mp4", "start": 2, "end": 1, "QA": [{"q": "Q", "a": "A"}]}, "start=2, end=1: the end"),
        ({"video": "a.mp4", "start": "x", "QA": [{"q": "Q", "a": "A"}]}, "start='x': a number of seconds"),
        ({"image": "0.jpg", "end": 1, "QA": [{"q": "Q", "a": "A"}]}, "the row has image"),
        ({"video": "a.mp4", "QA": [{"i": "", "q": "", "a": "A"}]}, "neither i nor q has a text"),
        ({"video": "a.mp4", "QA": [{"q": "Q", "answer": "A"}]}, "QA: key 'answer' would not be read"),
        ({"video_id": "b", "q": "Q", "a": "A"}, r"missing video file .*b\.mp4"),
        (
            {"image_list": [], "conversation": exchange("Hi", "<Image>b.jpg</Image>")},
            "names 'b.jpg', of which image_list gives no caption",
        ),
        (
            {"image_list": [{"image_name": "b.jpg", "caption": "b"}], "conversation": exchange("Hi", "A")},
            "no turn has the listed media b.jpg",
        ),
        ({"image_list": [{"image_name": "b", "text": "b"}], "conversation": exchange("Hi")}, "image_list: key 'text'"),
    ],
)
def test_a_broken_row_is_named_with_what_is_expected(tmp_path, row, message):
    media(tmp_path, "0.jpg", "1.jpg", "a.mp4")
    with pytest.raises(UserError, match=rf"rows\.json, row 1: .*{message}"):
        _read(tmp_path, {"conversations": exchange("Hi", "A")}, row)


@pytest.mark.parametrize(
    "row",
    [
        {"conversations": exchange("Hi", "")},
        {"conversation": exchange("Hi", " ")},
        {"messages": messages("Hi", "")},
        {"messages": messages("Hi", [])},
        {"query": "Hi", "response": ""},
        {"instruction": "Hi", "output": ""},
        {"video": "a.mp4", "QA": [{"q": "Q", "a": ""}]},
        {"video_id": "a", "q": "Q", "a": ""},
        {"conversations": exchange("Hi", None)},
        {"query": "Hi", "response": None},
        {"instruction": "Hi", "output": None},
        {"video": "a.mp4", "QA": [{"q": "Q", "a": None}]},
    ],
)
def test_empty_answers_are_refused_in_the_same_words(tmp_path, row):
    media(tmp_path, "a.mp4")
    with pytest.raises(UserError, match="row 0: every answer is empty: there is nothing to learn"):
        _read(tmp_path, row)


def test_a_layout_that_does_not_fit_names_the_one_that_does(tmp_path):
    row = {"messages": messages("Hi", "A"), "images": []}
    with pytest.raises(UserError, match=r"key 'messages' would not be read.*layout 'messages' reads all keys"):
        _read(tmp_path, row, source=LLaVA)
    with pytest.raises(UserError, match=r"nearest is \w+, which needs "):
        _read(tmp_path, {"conversation_list": [], "image": "0.jpg"})


def test_absolute_paths_and_links_need_media_roots(tmp_path):
    outside, root = tmp_path / "coco", tmp_path / "set"
    media(outside, "1.jpg", "2.jpg")
    (root / "images").mkdir(parents=True)
    (root / "images" / "linked.jpg").symlink_to(outside / "2.jpg")
    rows = [
        {"image": str(outside / "1.jpg"), "conversations": exchange("<image>", "A")},
        {"image": "linked.jpg", "conversations": exchange("<image>", "B")},
    ]
    for row in rows:
        with pytest.raises(UserError, match=r"leaves its folder .*media_roots may name further folders"):
            _read(root, row)
    found = _read(root, *rows, source=LLaVA, media_roots=[outside])
    assert [turns(dialogue)[0] for dialogue in found] == ["user: [image 1.jpg]", "user: [image 2.jpg]"]


def test_rows_about_the_same_medium_are_on_the_same_side(tmp_path):
    media(tmp_path, "a.jpg")
    rows = []
    for number in range(40):
        name = f"{number}.jpg"
        shown = [{"type": "image_url", "image_url": {"url": name}}, TEXT]
        rows += [
            {"messages": messages(shown, "A")},
            {"messages": messages([{"type": "image", "path": name}], "B")},
            {"messages": messages("<image>", "C"), "images": [{"path": name}]},
            {"image": name, "conversations": exchange("<image>", "D")},
        ]
    source = DataFiles(tmp_path, [in_json(tmp_path, "rows.json", rows)], need_media=False, val_fraction=0.3)
    sides = {split: [turns(dialogue)[0] for dialogue in source.read(split)] for split in ("train", "val")}
    names = {split: {re.search(r"\d+", text)[0] for text in texts} for split, texts in sides.items()}
    assert not names["train"] & names["val"]
    assert all(len(texts) == 4 * len(names[split]) > 0 for split, texts in sides.items())
