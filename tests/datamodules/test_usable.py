import json
import time

import numpy as np
import pytest
from groups import groups_of
from PIL import Image

from nextgpt_pl.batches import Rendered
from nextgpt_pl.datamodules import CaptionedPairs, Dialogues, OfficialDialogues, OfficialJSON
from nextgpt_pl.datamodules.collate import Collator
from nextgpt_pl.datamodules.samplers import MixedSampler, ResumableLoader
from nextgpt_pl.datamodules.usable import RowMaker, UsableRows
from nextgpt_pl.dialogue.conversation import Conversation
from nextgpt_pl.errors import UserError
from nextgpt_pl.modality import Modality
from nextgpt_pl.samples import CaptionedPair, Media


def _items(count, modality=Modality.IMAGE):
    return [CaptionedPair(f"{modality} {i}", modality, "x", Media(modality, lambda: None)) for i in range(count)]


class _Make:
    """Refuses what it is told to refuse."""

    max_length = 9

    def __init__(self, broken):
        self.broken = broken

    def __call__(self, item, *, shorten):
        if item.key in self.broken:
            raise UserError(f"{item.key}: broken")
        return (Rendered([1], [1], key=item.key),), 0


def _rows(broken, policies=((0, "skip"),)):
    items = [*_items(20), *_items(20, Modality.AUDIO)]
    return UsableRows(items, groups_of([i.modality for i in items]), policies, _Make(broken), "train")


def test_a_substitute_is_of_the_same_group_and_depends_on_the_item_alone():
    broken = {f"image {i}" for i in range(10)} | {"audio 3"}
    first, second = _rows(broken), _rows(broken)
    drawn = [first[i].rows[0].key for i in range(40)]
    assert [second[i].rows[0].key for i in reversed(range(40))] == drawn[::-1]
    assert [key.split()[0] for key in drawn] == ["image"] * 20 + ["audio"] * 20
    assert not broken & set(drawn)
    # neighbours that are broken alike do not all give way to one item
    assert len(set(drawn[:10])) > 4
    notes = {note.key for i in range(40) for note in first[i].notes}
    assert notes == broken


def test_a_run_that_is_resumed_gets_the_same_substitutes():
    def loader():
        rows = _rows({f"image {i}" for i in range(0, 20, 2)})
        collate = Collator(0)
        return ResumableLoader(rows, batch_sampler=MixedSampler(rows.groups, 6, seed=1), collate_fn=collate)

    whole = [list(batch.keys) for batch in loader()]
    first, second = loader(), loader()
    used = iter(first)
    assert [list(next(used).keys) for _ in range(3)] == whole[:3]
    second.load_state_dict(first.state_dict())
    assert [list(batch.keys) for batch in second] == whole[3:]


def test_each_source_has_its_own_policy_and_a_group_without_a_usable_row_is_an_error():
    with pytest.raises(UserError, match="audio 3: broken"):
        _rows({"image 1", "audio 3"}, ((0, "skip"), (20, "raise")))[23]
    assert _rows({"image 1"}, ((0, "skip"), (20, "raise")))[1].rows[0].key != "image 1"
    with pytest.raises(UserError, match=r"train: none of 100 rows drawn from audio can be used; the last: audio \d+"):
        _rows({f"audio {i}" for i in range(20)})[20]


def _turns(*texts):
    return {"conversations": [{"from": ("human", "gpt")[i % 2], "value": text} for i, text in enumerate(texts)]}


@pytest.fixture
def conversation(pocket_tokenizer):
    return Conversation(pocket_tokenizer, {Modality.IMAGE: [9001, 9002]}, dict.fromkeys(Modality, 4))


def test_long_dialogues_lose_whole_exchanges_and_long_pairs_are_skipped(tmp_path, conversation):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    long = {
        "input_image": ["a.png", "a.png"],
        **_turns("a red circle <image>", "a blue star", "now <image> what is it", "a green square"),
    }
    longer = _turns("what is it", "a red circle " * 30)
    (tmp_path / "d.json").write_text(json.dumps([_turns("hi", "hello"), long, longer]))

    def data(on_error, max_length):
        source = OfficialDialogues(tmp_path, ["d.json"], {"image": "."}, on_error=on_error)
        return Dialogues([source], batch_size=3, max_length=max_length).with_renderer(conversation)

    (item,) = [i for i in data("skip", 99).items("val") if i.key == "d.json, row 1"]
    whole = conversation(item)
    limit = len(whole.input_ids) - 1
    (batch,) = data("skip", limit).val_dataloader()
    assert len(batch) == 3
    (row,) = [r for r in batch.rows() if r.key == "d.json, row 1"][:1]
    assert [s.modality for s in row.slots] == [Modality.IMAGE]
    assert row.slots[0].stop - row.slots[0].start == 4
    text = conversation.tokenizer.decode(row.input_ids)
    assert "green square" in text
    assert "blue star" not in text
    assert {(n.kind, n.key) for n in batch.notes} >= {("shortened", "d.json, row 1"), ("skipped", "d.json, row 2")}
    with pytest.raises(UserError, match=r"d\.json, row \d: \d+ tokens, data\.max_length is"):
        list(data("raise", limit).val_dataloader())


def test_pairs_that_are_too_long_and_embeddings_that_are_not_finite_are_skipped(tmp_path, conversation):
    (tmp_path / "embed").mkdir()
    for index in range(3):
        values = np.full((2, 3), np.nan if index == 1 else 1, np.float32)
        np.save(tmp_path / "embed" / f"{index}.npy", values)
    rows = [
        {
            "output_image": f"{index}.png",
            "image_captions": "a red circle " * (40 if index == 2 else 1),
            "image_caption_embeddings": f"{index}.npy",
        }
        for index in range(3)
    ]
    (tmp_path / "p.json").write_text(json.dumps(rows))
    source = OfficialJSON(tmp_path, ["p.json"], need_media=False, on_error="skip")
    data = CaptionedPairs([source], batch_size=3, max_length=60).with_renderer(conversation)
    (batch,) = data.train_dataloader()
    assert list(batch.keys) == ["p.json, row 0 (0.png)"] * 3
    reasons = {note.key: note.reason for note in batch.notes}
    assert "numbers that are not finite" in reasons["p.json, row 1 (1.png)"]
    assert "data.max_length is 60" in reasons["p.json, row 2 (2.png)"]
    assert [e.tolist() for e in batch.spans[Modality.IMAGE].embeddings] == [[[1.0] * 3] * 2] * 3


def test_a_row_that_teaches_nothing_is_refused(conversation):
    make = RowMaker(lambda item: [Rendered([1, 2], [-100, -100], key=item.key)], 9)
    with pytest.raises(UserError, match="image 0: no token has a label"):
        make(_items(1)[0], shorten=True)


def test_a_batch_has_the_seconds_that_its_items_took_to_be_read():
    def read(row):
        time.sleep(0.01)
        return row

    make = RowMaker(lambda item: [Rendered([1, 2], [-100, 2], key=item.key)], 9, read)
    rows = UsableRows(_items(2), groups_of([Modality.IMAGE] * 2), [(0, "raise")], make, "train")
    batch = Collator(0)([rows[0], rows[1]])
    assert 0.02 <= batch.to("cpu").reading < 5
