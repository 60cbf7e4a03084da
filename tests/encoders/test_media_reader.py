import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from nextgpt_pl.batches import MediaSlot, Rendered, SignalSpan
from nextgpt_pl.dialogue.batching import pad
from nextgpt_pl.encoders.media_reader import MediaReader
from nextgpt_pl.encoders.stores import MemoryStores
from nextgpt_pl.errors import UserError
from nextgpt_pl.features import Memory, Preparation
from nextgpt_pl.features.keys import media_name
from nextgpt_pl.media.reading import array_of
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


def _shape(medium):
    return torch.tensor(array_of(medium)[0].shape)


def test_true_media_are_prepared_where_a_loss_compares_with_them_and_only_there(files):
    memory = Memory(10_000)
    compares, reads_none = MediaReader(None, {Modality.IMAGE: Preparation(_shape, memory)}), MediaReader(None)
    (span,) = compares(_row(made=[files["good"]])).spans
    assert span.inputs.tolist() == [8, 8, 3]
    with pytest.raises(UserError, match=r"cut\.png: not a readable image"):
        compares(_row(made=[files["cut"]]))
    (span,) = reads_none(_row(made=[files["cut"]])).spans
    assert span.inputs is None
    memory.add(media_name(files["cut"]), torch.ones(1))
    (span,) = compares(_row(made=[files["cut"]])).spans
    assert span.inputs is None  # its latents are in memory
    assert compares.files(_row(made=[files["cut"]])) == [files["cut"]]
    assert reads_none.files(_row(made=[files["cut"]])) == []
    assert pad([compares(_row(made=[files["good"]]))], 0).spans[Modality.IMAGE].inputs[0].tolist() == [8, 8, 3]


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_workers_learn_what_the_training_process_keeps(files, start):
    """A medium is prepared in the first epoch only, although the workers were started before."""
    preparation, stores = Preparation(_shape, Memory(10_000)), MemoryStores()
    reader = MediaReader(_Encoder(), {Modality.IMAGE: preparation}, stores)
    reader.open_stores()
    rows = [_row(shown=[files["good"]], made=[files["good"]])] * 2
    loader = DataLoader(
        _Rows(rows, reader),
        batch_size=None,
        num_workers=1,
        persistent_workers=True,
        multiprocessing_context=start,
    )
    read = [row.slots[0].inputs is not None and row.spans[0].inputs is not None for row in loader]
    assert read == [True, True]
    stores.memory.add(stores.key(files["good"]), torch.ones(3))
    preparation.memory.add(media_name(files["good"]), torch.ones(3))
    assert [(row.slots[0].inputs, row.spans[0].inputs) for row in loader] == [(None, None)] * 2


class _Rows(Dataset):
    def __init__(self, rows, reader):
        self.rows, self.reader = rows, reader

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        return self.reader(self.rows[index])


def test_shown_files_are_prepared_unless_their_features_are_kept_or_they_are_rendered(files):
    rendered = Media(Modality.IMAGE, lambda: np.zeros((8, 8, 3), np.uint8))
    row = _row(shown=[files["good"], files["cut"], rendered])
    stores = MemoryStores()
    stores.memory.add(stores.key(files["cut"]), torch.ones(3))
    read = MediaReader(_Encoder(), stores=stores)(row)
    assert [slot.inputs is not None for slot in read.slots] == [True, False, False]
    assert MediaReader(_Encoder()).files(row) == [files["good"], files["cut"]]
