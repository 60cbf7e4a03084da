import json
from collections import Counter

import numpy as np
import pytest

from nextgpt_pl.batches import RowNote
from nextgpt_pl.datamodules import Alpaca, CaptionedPairs, CaptionFolder, DataFiles, OfficialDialogues, OfficialJSON
from nextgpt_pl.datamodules.hold_out import hold_number, in_val, row_key
from nextgpt_pl.datamodules.row_notes import RowNotes
from nextgpt_pl.dialogue.conversation import Conversation, pair_to_dialogue
from nextgpt_pl.errors import UserError
from nextgpt_pl.modality import Modality
from nextgpt_pl.samples import CaptionedPair, Media


def _write(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(rows))


def _plain(modality, count, first=0):
    return [{"caption": f"{modality} {i}", f"{modality}_name": f"{i}.x"} for i in range(first, first + count)]


def _sides(root, files=("image/a.json", "audio/a.json"), fraction=0.1):
    source = OfficialJSON(root, list(files), need_media=False, val_fraction=fraction)
    return {split: source.read(split) for split in ("train", "val")}


def test_every_file_has_its_share_and_each_row_is_on_one_side(tmp_path):
    _write(tmp_path / "image" / "a.json", _plain("image", 2000))
    _write(tmp_path / "audio" / "a.json", _plain("audio", 300))
    sides = _sides(tmp_path)
    counts = {split: Counter(pair.modality.value for pair in pairs) for split, pairs in sides.items()}
    # three standard deviations of a binomial distribution
    assert abs(counts["val"]["image"] - 200) < 41
    assert abs(counts["val"]["audio"] - 30) < 16
    captions = {split: {pair.caption for pair in pairs} for split, pairs in sides.items()}
    assert not captions["train"] & captions["val"]
    assert len(captions["train"] | captions["val"]) == 2300


def test_added_rows_move_no_other_row(tmp_path):
    rows = _plain("image", 300)
    _write(tmp_path / "image" / "a.json", rows)
    before = {pair.caption for pair in _sides(tmp_path, ["image/a.json"])["val"]}
    _write(tmp_path / "image" / "a.json", [*_plain("image", 100, 1000), *rows, *_plain("image", 100, 2000)])
    _write(tmp_path / "audio" / "a.json", _plain("audio", 100))
    after = {pair.caption for pair in _sides(tmp_path)["val"]}
    old = {row["caption"] for row in rows}
    assert before
    assert before == after & old


def test_rows_about_the_same_medium_and_the_media_of_a_row_stay_together(tmp_path):
    rows = [{"caption": [f"{i} a", f"{i} b"], "image_name": [f"{i}.png", f"{i}b.png"]} for i in range(200)]
    rows += [{"caption": f"{i} c", "image_name": f"{i}.png"} for i in range(200)]
    _write(tmp_path / "image" / "a.json", rows)
    sides = _sides(tmp_path, ["image/a.json"], 0.5)
    of = {split: Counter(pair.caption.split()[0] for pair in pairs) for split, pairs in sides.items()}
    assert not of["train"].keys() & of["val"].keys()
    assert {*of["train"].values(), *of["val"].values()} == {3}


def test_without_a_share_validation_sees_the_training_rows(tmp_path):
    _write(tmp_path / "image" / "a.json", _plain("image", 5))
    sides = _sides(tmp_path, ["image/a.json"], 0.0)
    assert list(sides["train"]) == list(sides["val"])
    assert len(sides["val"]) == 5


def test_a_validation_without_rows_is_an_error_that_names_files_and_remedy(tmp_path):
    _write(tmp_path / "image" / "a.json", _plain("image", 2))
    source = OfficialJSON(tmp_path, ["image/a.json"], need_media=False, val_fraction=0.0001)
    data = CaptionedPairs([source]).with_renderer(Conversation(None, {}))
    assert len(data.items("train")) == 2
    message = r"no item for val; val_fraction: 0 validates .*\n  image/a\.json: none of its 2 rows is for validation"
    with pytest.raises(UserError, match=message):
        data.items("val")
    # another source's rows are validated on, and the report says that these are not among them
    _write(tmp_path / "image" / "b.json", _plain("image", 3))
    other = OfficialJSON(tmp_path, ["image/b.json"], need_media=False)
    both = CaptionedPairs([source, other]).with_renderer(data.conversation())
    assert len(both.items("val")) == 3
    assert "a.json: none of its 2 rows is for validation: val_fraction=0.0001" in source.report.message()


@pytest.mark.parametrize(
    ("row", "key"),
    [
        ({"input_image": ["a.png", "b.png"], "output_audio": "c.wav"}, "a.png"),
        ({"output_audio": "c.wav", "audio_captions": "x"}, "c.wav"),
        ({"image": "a.png", "id": 3}, "a.png"),
        ({"video": "v.mp4", "QA": []}, "v.mp4"),
        ({"audio_name": "a.wav", "caption": "x"}, "a.wav"),
        ({"file_name": "a.wav", "text": "x"}, "a.wav"),
        ({"output": "b", "instruction": "ä"}, '{"instruction": "ä", "output": "b"}'),
        ({"input_image": []}, '{"input_image": []}'),
    ],
)
def test_a_rows_key_is_its_first_medium_or_all_it_says(row, key):
    assert row_key(row) == key


def test_added_rows_change_no_question(tmp_path):
    rows = _plain("image", 40)
    asked = []
    for found in (rows, [*_plain("image", 3, 100), *rows]):
        _write(tmp_path / "image" / "a.json", found)
        pairs = OfficialJSON(tmp_path, ["image/a.json"], need_media=False).read("train")
        turns = {pair.caption: pair_to_dialogue(pair, "comprehension").messages[0] for pair in pairs}
        asked.append({caption: turn.parts[1].text for caption, turn in turns.items()})
    assert asked[0].items() <= asked[1].items()
    assert len(set(asked[0].values())) == 5


def test_the_side_is_the_same_in_every_process():
    # recorded: a hash that differs by process or version would move the rows of every data set
    numbers = np.array([hold_number(f"{i}.png") for i in range(100)], np.uint64)
    assert np.flatnonzero(in_val(numbers[:20], 0.5)).tolist() == [1, 3, 8, 9, 10, 12, 13, 15, 16, 19]
    assert not in_val(numbers, 0.0).any()


def _turns(*texts):
    return {"conversations": [{"from": ("human", "gpt")[i % 2], "value": text} for i, text in enumerate(texts)]}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (
            _turns("Hello?"),
            "no turn of the assistant: there is nothing to learn; a test set without answers is for test",
        ),
        (_turns("Hello?", "", "Still there?", "  \n"), "every answer is empty: there is nothing to learn"),
    ],
)
def test_a_dialogue_without_an_answer_is_broken(tmp_path, row, reason):
    _write(tmp_path / "d.json", [_turns("Hi.", "Hello."), row])
    source = OfficialDialogues(tmp_path, ["d.json"], on_error="skip")
    assert [d.key for d in source.read("train")] == ["d.json, row 0"]
    assert (source.report.used, list(source.report.broken)) == (1, [f"d.json, row 1: {reason}"])
    with pytest.raises(UserError, match=r"d\.json, row 1: " + reason):
        OfficialDialogues(tmp_path, ["d.json"]).read("train")


def test_a_blank_answer_or_caption_is_broken_in_every_source(tmp_path):
    _write(tmp_path / "a.json", [{"instruction": "Say a.", "input": "", "output": " "}])
    with pytest.raises(UserError, match=r"a\.json, row 0: every answer is empty"):
        Alpaca(tmp_path, ["a.json"]).read("train")
    _write(tmp_path / "p.json", [{"input_image": "0.png", **_turns("What is it?", "")}])
    with pytest.raises(UserError, match=r"p\.json, row 0: the caption is empty"):
        OfficialJSON(tmp_path, ["p.json"], need_media=False).read("train")
    (tmp_path / "0.png").touch()
    (tmp_path / "m.jsonl").write_text('{"file": "0.png", "caption": " "}\n')
    with pytest.raises(UserError, match="row 0: the caption is empty"):
        CaptionFolder(tmp_path, "m.jsonl", val_fraction=0).read("train")


def test_half_of_a_character_is_broken_and_other_names_are_read(tmp_path):
    rows = [{"instruction": "say", "output": answer} for answer in ("yes", "n\ud83d")]
    (tmp_path / "a.json").write_text(json.dumps(rows))
    with pytest.raises(UserError, match=r"a\.json, row 1: message 1: the text has half of a character, \\ud83d"):
        Alpaca(tmp_path, ["a.json"]).read("train")
    assert len(Alpaca(tmp_path, ["a.json"], on_error="skip").read("train")) == 1
    name = b"pic\xff.png".decode("utf-8", "surrogateescape")  # as file systems may hold it
    pair = CaptionedPair(name, Modality.IMAGE, "a circle", Media(Modality.IMAGE, tmp_path / name))
    assert pair_to_dialogue(pair, "comprehension").messages[1].parts[0].text == "a circle"
    notes = RowNotes()
    notes.take([RowNote("train", "skipped", name, f"{name}: damaged")])
    notes.exchange()
    notes.write(tmp_path)
    notes.write(tmp_path)
    (line,) = (tmp_path / "skipped_rows.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(line)["key"] == name


def test_files_of_one_split_each_are_no_remark_where_the_data_set_gives_all_splits(tmp_path):
    for split in ("train", "val"):
        lines = [{"messages": [{"role": "user", "content": "Hi."}, {"role": "assistant", "content": "Ho."}]}]
        (tmp_path / f"{split}.jsonl").write_text("".join(json.dumps({**line, "split": split}) + "\n" for line in lines))
    source = DataFiles(tmp_path, ["train.jsonl", "val.jsonl"])
    assert len(source.read("train")) == len(source.read("val")) == 1
    assert not source.report.notes
