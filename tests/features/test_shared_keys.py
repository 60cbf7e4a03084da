import pickle

import torch

from nextgpt_pl.features import Memory
from nextgpt_pl.features.keys import digest


def test_a_copy_knows_the_keys_and_holds_no_values():
    memory, key = Memory(100_000), digest("a")
    memory.add(digest("before"), torch.ones(3))
    memory.share()
    copy = pickle.loads(pickle.dumps(memory))
    assert len(copy) == 0
    assert copy.kept(digest("before"))
    assert key not in copy
    assert not copy.kept(key)


def test_evicted_keys_are_no_longer_known():
    memory = Memory(3000, evict=True)
    memory.share()
    keys = [digest(str(number)) for number in range(4)]
    for key in keys:
        memory.add(key, torch.ones(3))
    assert [memory._shared is not None and key in memory._shared for key in keys] == [False, False, True, True]
    assert [memory.kept(key) for key in keys] == [key in memory for key in keys]


def test_keys_of_one_slot_displace_each_other_and_never_add_one(monkeypatch):
    monkeypatch.setattr("nextgpt_pl.features.shared_keys._SLOTS", 1)
    memory = Memory(100_000)
    memory.share()
    first, second = digest("1"), digest("2")
    memory.add(first, torch.ones(3))
    memory.add(second, torch.ones(3))
    assert second in memory._shared
    assert first not in memory._shared
    assert memory.kept(first)  # in the process that has its value
    assert not memory.kept(digest("3"))
