"""What processes exchange, alone and as two threads would see it."""

import pytest
import torch

from nextgpt_pl.utils import distributed
from nextgpt_pl.utils.distributed import means

NAMES = ("text", "image", "audio")


def _with_other(monkeypatch, other):
    """Two processes, of which the other one has sent ``other``: sums, then counts."""
    sent = []

    def all_reduce_sum(values):
        sent.append(values)
        return values + torch.tensor(other, dtype=values.dtype)

    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    monkeypatch.setattr(distributed, "all_reduce_sum", all_reduce_sum)
    return sent


def test_alone_the_part_is_the_mean_of_what_is_there():
    total = torch.tensor(6.0, requires_grad=True)
    found = means(NAMES, {"text": (total, 4)})
    assert found.keys() == {"text"}
    assert found["text"].part.item() == found["text"].value.item() == 1.5
    found["text"].part.backward()
    assert total.grad == 0.25


@pytest.mark.parametrize("here", [{"text": 2.0}, {"text": 2.0, "audio": 4.0}, {"audio": 4.0, "text": 2.0}])
def test_every_process_sends_the_same_names_in_one_exchange(monkeypatch, here):
    sent = _with_other(monkeypatch, [10.0, 3.0, 0.0, 4.0, 1.0, 0.0])
    totals = {name: torch.tensor(value, requires_grad=True) for name, value in here.items()}
    found = means(NAMES, {name: (total, 2) for name, total in totals.items()})
    audio = here.get("audio", 0.0)
    assert [values.tolist() for values in sent] == [[2.0, 0.0, audio, 2.0, 0.0, 2.0 if audio else 0.0]]
    assert tuple(found) == NAMES
    assert found["text"].value == 12 / 6
    assert found["text"].part == 2 / (6 / 2)  # averaged over both processes: 12 / 6
    assert (found["image"].value, float(found["image"].count), found["image"].part) == (3.0, 1.0, 0.0)
    assert found["audio"].value == audio / 2
    found["text"].part.backward()
    torch.testing.assert_close(totals["text"].grad, torch.tensor(1 / 3))


def test_fewer_items_than_processes_weigh_as_in_one_process(monkeypatch):
    """One item in all: its gradient, averaged over two processes, is that of one process."""
    _with_other(monkeypatch, [0.0, 0.0, 0.0, 0.0, 0.0, 0.0])
    assert means(NAMES, {"text": (torch.tensor(5.0), 1)})["text"].part / 2 == 5.0


def test_a_name_that_is_not_exchanged_is_refused():
    with pytest.raises(ValueError, match="smell"):
        means(NAMES, {"smell": (torch.tensor(1.0), 1)})
