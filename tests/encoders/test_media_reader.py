import numpy as np
import pytest
import torch
from PIL import Image

from nextgpt_pl.batches import MediaSlot, Rendered, SignalSpan
from nextgpt_pl.encoders.media_reader import MediaReader
from nextgpt_pl.encoders.stores import MemoryStores
from nextgpt_pl.errors import UserError
from nextgpt_pl.modality import Modality
from nextgpt_pl.samples import Media


class _Encoder:
    def prepare(self, medium):
        return torch.ones(3)


@pytest.fixture
def files(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "good.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "good.png").read_bytes()[:30])
    return {name: Media(Modality.IMAGE, tmp_path / f"{name}.png") for name in ("good", "cut")}


def _row(shown=(), made=()):
    slots = tuple(MediaSlot(Modality.IMAGE, i, i + 1, medium) for i, medium in enumerate(shown))
    spans = tuple(SignalSpan(medium.modality, i, i + 1, "x", media=medium) for i, medium in enumerate(made))
    return Rendered([1], [1], slots, spans)


def test_true_media_are_read_where_a_loss_compares_with_them_and_only_there(files):
    compares, reads_none = MediaReader(None, frozenset({Modality.IMAGE})), MediaReader(None)
    assert compares(_row(made=[files["good"]])) == _row(made=[files["good"]])
    with pytest.raises(UserError, match=r"cut\.png: not a readable image"):
        compares(_row(made=[files["cut"]]))
    files["good"].source.write_bytes(b"")  # opened once, it is not opened again
    compares(_row(made=[files["good"]]))
    reads_none(_row(made=[files["cut"]]))
    assert compares.files(_row(made=[files["cut"]])) == [files["cut"]]
    assert reads_none.files(_row(made=[files["cut"]])) == []


def test_shown_files_are_prepared_unless_their_features_are_kept_or_they_are_rendered(files):
    rendered = Media(Modality.IMAGE, lambda: np.zeros((8, 8, 3), np.uint8))
    row = _row(shown=[files["good"], files["cut"], rendered])
    stores = MemoryStores()
    stores.memory.add(stores.key(files["cut"]), torch.ones(3))
    read = MediaReader(_Encoder(), stores=stores)(row)
    assert [slot.inputs is not None for slot in read.slots] == [True, False, False]
    assert MediaReader(_Encoder()).files(row) == [files["good"], files["cut"]]
