"""Many keys: found wherever they are, by several shards and processes."""

import base64
import os
import pickle
import time
from multiprocessing import get_context

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from nextgpt_pl.features import FeatureStore
from nextgpt_pl.features.index import KeyIndex, as_array
from nextgpt_pl.features.keys import KEY_BYTES, digest

KEYS = [digest("item", str(i)) for i in range(6)]
# three values of two numbers in float16 under KEYS, as the version before the sorted index wrote them
OLD_SHARD = """
wAAAAAAAAAB7ImNoZWNrc3VtcyI6eyJkdHlwZSI6Ikk2NCIsInNoYXBlIjpbM10sImRhdGFfb2Zmc2V0cyI6WzAsMjRdfSwidmFsdWVzIjp7ImR0eXBl
IjoiRjE2Iiwic2hhcGUiOlszLDEsMl0sImRhdGFfb2Zmc2V0cyI6WzI0LDM2XX0sImtleXMiOnsiZHR5cGUiOiJVOCIsInNoYXBlIjpbMywyMF0sImRh
dGFfb2Zmc2V0cyI6WzM2LDk2XX19ICAgICAZM4RPAAAAAJC6VMkAAAAAaSj/0gAAAAAAAAA4ADwAPgBAAEEw0wg+dJXaFE80ojupkR/N/8zdpXOUOoXB
9pPdMvHYJDk1K6TVDRSJW/U6Syw/f4bnW6ckXDwZN++sY1c=
"""


def _store(folder, dtype=torch.float32):
    return FeatureStore(folder, {"weights": "a"}, dtype)


def _write(store, keys, values):
    store.add_each(keys, torch.as_tensor(values))
    store.flush()


def _values(store, keys):
    return [None if value is None else value.flatten()[0].item() for value in store.get_each(keys)]


def test_a_hundred_thousand_keys_are_found_and_no_others(tmp_path):
    keys = [digest(str(i)) for i in range(100_000)]
    store = _store(tmp_path)
    for start in range(0, len(keys), 9_000):  # shards of several sizes: 9,000 and 1,000 keys
        _write(store, keys[start : start + 9_000], torch.arange(start, min(start + 9_000, len(keys))).view(-1, 1))
    for reader in (store, _store(tmp_path)):
        assert len(reader) == len(keys)
        order = np.random.default_rng(0).permutation(len(keys)).tolist()
        assert _values(reader, [keys[i] for i in order]) == order
        others = [digest("other", str(i)) for i in range(1000)]
        assert reader.get_each(others) == [None] * 1000
        assert reader.missing([keys[0], others[0], keys[-1], others[1]]) == [1, 3]


def test_keys_that_share_their_first_bytes_are_told_apart(tmp_path):
    rng = np.random.default_rng(0)
    shared = [bytes(8), b"\xff" * 8, b"ab" * 4]
    keys = [start + rng.bytes(KEY_BYTES - 8) for start in shared for _ in range(50)]
    store = _store(tmp_path)
    for part in range(3):
        _write(store, keys[part::3], torch.arange(len(keys), dtype=torch.float32)[part::3].view(-1, 1))
    for reader in (store, _store(tmp_path)):
        assert _values(reader, keys) == list(range(len(keys)))
        assert len(reader) == len(keys)
        assert reader.get_each([start + rng.bytes(KEY_BYTES - 8) for start in shared]) == [None] * 3


@pytest.mark.parametrize("again", [1, 3])
@pytest.mark.parametrize("others", [0, 40])  # so many that a later shard is searched by itself
def test_later_shards_override_earlier_ones(tmp_path, again, others):
    store = _store(tmp_path)
    _write(store, KEYS + [digest(str(i)) for i in range(others)], torch.zeros(6 + others, 2))
    for number in range(1, again + 1):
        _write(store, KEYS[1:4], torch.full((3, 2), float(number)))
    for reader in (store, _store(tmp_path)):
        assert _values(reader, KEYS) == [0, again, again, again, 0, 0]
        assert len(reader) == 6 + others


def test_a_shard_of_an_earlier_version_is_read_and_overridden(tmp_path):
    (tmp_path / "01700000000000000000-0123456789ab.safetensors").write_bytes(base64.b64decode(OLD_SHARD))
    store = _store(tmp_path, torch.float16)
    assert torch.equal(torch.stack(store.get_each(KEYS[:3])), torch.tensor([[[i, i + 0.5]] for i in range(3)]))
    _write(store, KEYS[1:2], torch.full((1, 1, 2), 7.0))
    assert _values(_store(tmp_path, torch.float16), KEYS[:4]) == [0, 7, 2, None]


def test_the_index_takes_no_memory_per_key_but_its_two_numbers():
    index = KeyIndex()
    rng = np.random.default_rng(0)
    shards = [rng.integers(0, 256, (size, KEY_BYTES), np.uint8) for size in (1, 2000, 3, 3, 500, 1, 1, 1)]
    for shard in shards:
        index.add([shard])
    assert sum(run.prefixes.nbytes + run.places.nbytes for run in index._runs) == 16 * sum(map(len, shards))
    assert len(index._runs) <= 4
    places = [index.find(shard).tolist() for shard in shards]
    assert places == [[number << 32 | row for row in range(len(shard))] for number, shard in enumerate(shards)]
    assert index.find(as_array([])).tolist() == []


def test_an_empty_store_finds_nothing(tmp_path):
    store = _store(tmp_path)
    assert (len(store), store.get(KEYS[0]), store.missing(KEYS[:2]), store.get_each([])) == (0, None, [0, 1], [])


def _writes(folder, own):
    store = _store(folder)
    for number, key in enumerate([*own, *KEYS[:2]]):
        _write(store, [key], torch.full((1, 2), float(number)))


def test_two_processes_write_at_the_same_time(tmp_path):
    own = [[digest(name, str(i)) for i in range(20)] for name in "ab"]
    reader = _store(tmp_path)
    processes = [get_context("spawn").Process(target=_writes, args=(tmp_path, keys)) for keys in own]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    reader.refresh_if_changed()
    for store in (reader, _store(tmp_path)):
        assert [_values(store, keys) for keys in own] == [list(range(20))] * 2
        assert _values(store, KEYS[:3]) == [20, 21, None]
        assert len(store) == 42  # the two keys of both count once


def test_opening_a_store_again_does_not_change_the_folder(tmp_path):
    store = _store(tmp_path)
    _write(store, KEYS, torch.ones(6, 2))
    os.utime(tmp_path, (time.time() - 60,) * 2)
    before = tmp_path.stat().st_mtime_ns
    passed = pickle.loads(pickle.dumps(store))  # else each worker that starts would make all processes list the folder
    assert tmp_path.stat().st_mtime_ns == before
    assert _values(passed, KEYS) == [1] * 6


def _kept(store, keys):
    assert [store.kept(key) for key in keys] == [True, True, False]


def test_a_spawned_process_knows_what_is_kept(tmp_path):
    store = _store(tmp_path)
    _write(store, KEYS[:2], torch.ones(2, 2))
    process = get_context("spawn").Process(target=_kept, args=(store, KEYS[:3]))
    process.start()
    process.join()
    assert process.exitcode == 0


def test_equal_keys_of_one_look_up_are_read_and_made_once(tmp_path):
    store = _store(tmp_path)
    _write(store, KEYS[:1], torch.ones(1, 2))
    asked = [KEYS[i] for i in (1, 0, 1, 0, 2)]
    lookup = store.look_up(asked)
    assert lookup.missing == [0, 4]
    assert list(lookup.values) == [KEYS[1], KEYS[0], KEYS[2]]
    found = store.fetch(asked, lambda at: torch.tensor([[float(i + 5)] * 2 for i in at]))
    assert [value[0].item() for value in found] == [5, 1, 5, 1, 9]


def test_a_batch_with_damaged_values_gives_the_others(tmp_path):
    values = torch.randn(6, 3)
    for part in (slice(0, 3), slice(3, 6)):
        _write(_store(tmp_path), KEYS[part], values[part])
    for shard, row in zip(sorted(tmp_path.glob("*.safetensors")), (1, 5), strict=True):
        data = bytearray(shard.read_bytes())
        data[bytes(data).index(values[row].numpy().tobytes())] ^= 1
        shard.write_bytes(data)
    store = _store(tmp_path)
    with pytest.warns(UserWarning, match="is damaged") as warned:
        lookup = store.look_up(KEYS)
    assert lookup.missing == [1, 5]
    assert [str(w.message).partition(": the value in ")[2].partition(" is")[0] for w in warned] == ["row 1", "row 2"]
    assert all(torch.equal(lookup.values[KEYS[i]], values[i]) for i in (0, 2, 3, 4))
    store.fetch(KEYS, lambda at: values[at])
    store.flush()
    again = _store(tmp_path).look_up(KEYS)
    assert not again.missing
    assert torch.equal(torch.stack(list(again.values.values())), values)


def test_values_are_views_of_the_mapped_file_if_they_are_exact(tmp_path):
    store = _store(tmp_path)
    _write(store, KEYS, torch.randn(6, 4))
    first, second = store.get_each(KEYS[:2])
    assert first.untyped_storage().data_ptr() == second.untyped_storage().data_ptr()
    assert first.data_ptr() == store.get(KEYS[0]).data_ptr()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"keys": torch.zeros(6, 7, dtype=torch.uint8)}, r"keys: torch.uint8 \(6, 7\)"),
        ({"values": torch.zeros(5, 2)}, r"values: torch.float32 \(5, 2\)"),
        ({"values": torch.zeros(6, 2, dtype=torch.int32)}, r"values: torch.int32"),
        ({"checksums": torch.zeros(5, dtype=torch.int64)}, r"checksums: torch.int64 \(5,\)"),
        ({"scales": torch.zeros(6)}, r"scales: expected"),
        ({"values": None}, r"values"),
    ],
)
def test_a_shard_whose_tensors_do_not_fit_is_named(tmp_path, change, named):
    _write(_store(tmp_path), KEYS, torch.ones(6, 2))
    (shard,) = tmp_path.glob("*.safetensors")
    tensors = {name: tensor for name, tensor in (load_file(shard) | change).items() if tensor is not None}
    save_file(tensors, shard)
    with pytest.warns(UserWarning, match=rf"{shard.name} is damaged \(.*{named}"):
        store = _store(tmp_path)
    assert store.missing(KEYS) == list(range(6))


def test_new_values_are_written_before_their_keys_fill_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr("nextgpt_pl.features.disk.SHARD_BYTES", 2**20)
    store = _store(tmp_path, torch.float16)
    store.add_each([digest(str(i)) for i in range(2000)], torch.zeros(2000, 1))  # 4 KB of numbers
    assert len(list(tmp_path.glob("*.safetensors"))) == 1
    assert len(store) == 2000
