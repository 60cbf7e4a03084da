import json
import pickle
import random

import numpy as np
import pytest
from PIL import Image

from nextgpt_pl.datamodules import CaptionedPairs, DataFiles, indexed_items
from nextgpt_pl.dialogue.conversation import Conversation
from nextgpt_pl.errors import UserError
from nextgpt_pl.modality import Modality
from nextgpt_pl.readers import index


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "images").mkdir()
    for i in range(4):
        Image.new("RGB", (4, 4)).save(tmp_path / "images" / f"{i}.png")
    rows = [{"caption": [f"{i} a", f"{i} b"], "image_name": [f"{i % 4}.png"] * 2} for i in range(50)]
    rows += [{"caption": "", "image_name": "0.png"}, {"caption": "later", "image_name": "9.png"}]
    random.Random(0).shuffle(rows)
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + "{\n")
    return tmp_path


@pytest.fixture(params=["memory", "disk"])
def source(request, folder, monkeypatch):
    if request.param == "disk":
        monkeypatch.setattr(indexed_items, "_MEMORY", 0)
        monkeypatch.setattr(index, "_BATCH", 16)
    return DataFiles(folder, ["rows.jsonl"], on_error="skip", val_fraction=0.3, index_folder=folder / "index")


def test_items_are_those_of_the_rows_and_both_splits_come_from_one_reading(source, monkeypatch):
    reads = []
    rows = DataFiles.rows
    monkeypatch.setattr(DataFiles, "rows", lambda self, file: reads.append(file) or rows(self, file))
    sides = {split: source.read(split) for split in ("train", "val")}
    assert len(reads) == 1
    captions = {split: [item.caption for item in items] for split, items in sides.items()}
    assert sorted(captions["train"] + captions["val"]) == sorted(f"{i} {x}" for i in range(50) for x in "ab")
    # the captions of a row are on one side, one after the other
    assert all(a[:-1] == b[:-1] for a, b in zip(captions["val"][::2], captions["val"][1::2], strict=True))
    assert sides["val"][-1] == sides["val"][len(sides["val"]) - 1] == sides["val"][-2:][1]
    with pytest.raises(IndexError):
        sides["val"][len(sides["val"])]


def test_broken_rows_are_counted_named_and_listed(source):
    source.read("train")
    assert source.report.used == 50
    messages = list(source.report.broken)
    assert len(messages) == len(source.report.broken) == 3
    assert any("caption=''" in m or "the caption is empty" in m for m in messages)
    assert any("missing image file" in m and "9.png" in m for m in messages)
    assert messages[-1] == source.report.broken[-1]
    assert "rows.jsonl: line 53: unreadable JSON" in messages[-1]
    assert "3 broken" in source.report.message()


def test_a_second_start_reads_no_row(folder, monkeypatch):
    monkeypatch.setattr(indexed_items, "_MEMORY", 0)
    arguments = {"on_error": "skip", "index_folder": folder / "index"}
    first = list(DataFiles(folder, ["rows.jsonl"], **arguments).read("train"))
    again = DataFiles(folder, ["rows.jsonl"], val_fraction=0.5, **arguments)
    monkeypatch.setattr(DataFiles, "rows", lambda self, file: pytest.fail("the rows were read again"))
    assert len(again.read("train")) + len(again.read("val")) == len(first)


class _Told:
    def __repr__(self):
        return "told"


def test_a_source_that_the_index_could_not_be_found_for_again_is_refused(folder, monkeypatch):
    monkeypatch.setattr(indexed_items, "_MEMORY", 0)

    def source(**attributes):
        made = DataFiles(folder, ["rows.jsonl"], on_error="skip", index_folder=folder / "index")
        vars(made).update(attributes)
        return made

    with pytest.raises(
        UserError, match=r"DataFiles\.filter=.* at 0x.*: the index of the rows is named by it, .* a __repr__"
    ):
        source(filter=object()).read("train")
    assert len(source(filter=_Told(), _filter=object(), names={"b", "a"}).read("train")) == 100
    (made,) = [path for path in (folder / "index").iterdir() if path.is_dir()]
    assert json.loads((made / index.META).read_text())["arguments"]["names"] == ["a", "b"]
    assert json.loads((made / index.META).read_text())["arguments"]["filter"] == "told"


def test_the_index_is_made_again_when_a_file_changes_or_a_missing_medium_appears(folder, monkeypatch):
    monkeypatch.setattr(indexed_items, "_MEMORY", 0)

    def count():
        source = DataFiles(folder, ["rows.jsonl"], on_error="skip", index_folder=folder / "index")
        return len(source.read("train"))

    assert count() == 100
    Image.new("RGB", (4, 4)).save(folder / "images" / "9.png")
    assert count() == 101
    with (folder / "rows.jsonl").open("a") as file:
        file.write(json.dumps({"caption": "new", "image_name": "1.png"}) + "\n")
    assert count() == 102
    assert len(list((folder / "index").glob("*/items.arrow"))) == 1


def test_a_medium_that_vanishes_after_indexing_is_an_error_that_names_the_row(source, folder):
    items = source.read("train")
    name = items[5].media.source.name
    (folder / "images" / name).unlink()
    with pytest.raises(UserError, match=rf"rows\.jsonl, row \d+: missing image file .*{name}"):
        items[5]


def test_items_go_to_workers_that_are_started_afresh(source):
    items = source.read("train")
    copy = pickle.loads(pickle.dumps(items))
    assert [item.key for item in copy] == [item.key for item in items]
    assert np.array_equal(copy.kinds, items.kinds)


def test_unknown_keys_are_errors_unless_they_are_ignored(folder):
    row = {"caption": "x", "image_name": "0.png", "image_captoins": "y"}
    (folder / "u.jsonl").write_text(json.dumps(row) + "\n")
    with pytest.raises(
        UserError, match=r"u\.jsonl, row 0: key 'image_captoins' would not be read; did you mean 'image_captions'"
    ):
        DataFiles(folder, ["u.jsonl"]).read("train")
    for ignore in (["image_captoins"], ["*"]):
        assert len(DataFiles(folder, ["u.jsonl"], ignore=ignore).read("train")) == 1


def test_mistakes_in_the_arguments_are_named(folder):
    with pytest.raises(UserError, match=r"layout='lava': no such layout"):
        DataFiles(folder, ["rows.jsonl"], layout="lava")
    with pytest.raises(UserError, match=r"media: 'imgae' is no modality; did you mean 'image'"):
        DataFiles(folder, ["rows.jsonl"], media={"imgae": "x"})
    with pytest.raises(UserError, match=r"media_roots: .*nowhere: no such folder"):
        DataFiles(folder, ["rows.jsonl"], media_roots=[folder / "nowhere"]).read("train")
    with pytest.raises(UserError, match=r"row\.jsonl: no such file; did you mean 'rows\.jsonl'"):
        DataFiles(folder, ["row.jsonl"]).read("train")
    with pytest.raises(UserError, match=r"row\.jsonl: no such file"):
        DataFiles(folder, ["row.jsonl"], on_error="skip").read("train")


def test_computed_embeddings_ignore_the_files(folder):
    row = {"output_image": "0.png", "image_captions": "x", "image_caption_embeddings": "none.npy"}
    row["conversations"] = [{"from": "human", "value": "draw"}, {"from": "gpt", "value": "here <image>"}]
    (folder / "e.json").write_text(json.dumps([row]))
    with pytest.raises(UserError, match="missing caption embedding"):
        DataFiles(folder, ["e.json"]).read("train")
    (dialogue,) = DataFiles(folder, ["e.json"], embeddings="compute").read("train")
    assert dialogue.messages[1].parts[1].caption_embedding is None


def test_training_order_and_groups_know_nothing_of_the_rows(source, pocket_tokenizer):
    conversation = Conversation(pocket_tokenizer, {}, {Modality.IMAGE: 2}, direction="comprehension")
    data = CaptionedPairs([source], batch_size=8, weights={"image": 1.0}).with_renderer(conversation)
    rows = data.rows("train")
    assert rows.groups.sizes() == {Modality.IMAGE: len(rows)}
    batches = list(data.train_dataloader())
    assert sum(len(batch) for batch in batches) == len(rows)


class _Doubled(DataFiles):
    def items(self, file, row, where):
        return [*super().items(file, row, where)] * 2


def test_items_of_a_class_of_the_user_are_those_that_are_indexed(folder):
    source = _Doubled(folder, ["rows.jsonl"], on_error="skip")
    assert len(source.read("train")) == 200
    assert source.report.used == 50
