from pathlib import Path

import pytest
import torch

from nextgpt_pl.batches import MediaSlot, Rendered, SignalSpan
from nextgpt_pl.dialogue.batching import pad
from nextgpt_pl.modality import Modality
from nextgpt_pl.samples import Media


@pytest.fixture
def pinned(monkeypatch):
    """The tensors that were pinned; without a GPU, pinning marks them only."""
    marked = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: marked.append(tensor) or tensor)
    return marked


def test_all_tensors_of_a_batch_are_pinned(pinned):
    medium = Media(Modality.IMAGE, Path("a.png"))
    slots = (MediaSlot(Modality.IMAGE, 0, 1, medium, torch.ones(2)), MediaSlot(Modality.IMAGE, 1, 2, medium))
    spans = (
        SignalSpan(Modality.AUDIO, 2, 3, "a", media=medium, inputs=torch.ones(3)),
        SignalSpan(Modality.AUDIO, 3, 4, "b", embedding=torch.ones(4)),
    )
    batch = pad([Rendered([1, 2, 3, 4], [1, 2, 3, 4], slots, spans)], 0)
    copy = batch.pin_memory()
    shapes = sorted(tuple(tensor.shape) for tensor in pinned)
    assert shapes == [(1, 4), (1, 4), (1, 4), (2,), (2,), (2,), (3,), (4,)]
    assert copy.slots == batch.slots
    assert copy.spans[Modality.AUDIO].captions == ["a", "b"]
    assert [i is None for i in copy.spans[Modality.AUDIO].inputs] == [False, True]
