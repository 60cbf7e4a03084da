import json
import os
import pickle
import shutil
import time
import warnings

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from nextgpt_pl.errors import UserError
from nextgpt_pl.features import FeatureCache, FeatureStore, Memory
from nextgpt_pl.features.keys import digest, media_key, media_name
from nextgpt_pl.modality import Modality
from nextgpt_pl.pocket.world import items
from nextgpt_pl.samples import Media

KEYS = [digest("item", str(i)) for i in range(6)]


def _store(folder, dtype=torch.float32):
    return FeatureStore(folder, {"weights": "a"}, dtype)


def test_features_survive_the_process_and_are_made_once(tmp_path):
    values = torch.randn(6, 2, 3)
    store = _store(tmp_path)
    asked = [KEYS[i] for i in (0, 1, 0, 2)]
    made = []
    first = store.fetch(asked, lambda at: made.append(at) or torch.stack([values[(0, 1, 0, 2)[i]] for i in at]))
    assert made == [[0, 1, 3]]
    assert all(torch.equal(a, values[i]) for a, i in zip(first, (0, 1, 0, 2), strict=True))
    store.flush()
    again = _store(tmp_path)
    found = again.fetch([KEYS[2], KEYS[0]], lambda at: pytest.fail(f"made again: {at}"))
    assert torch.equal(torch.stack(found), values[[2, 0]])
    assert not list(tmp_path.glob("*.partial"))


def test_what_another_process_writes_is_seen(tmp_path):
    ours, theirs = _store(tmp_path), _store(tmp_path)
    theirs.add(KEYS[0], torch.ones(2))
    theirs.flush()
    assert KEYS[0] not in ours
    ours.flush()
    assert torch.equal(ours.get(KEYS[0]), torch.ones(2))
    theirs.add(KEYS[1], torch.ones(2))
    theirs.flush()
    ours.refresh_if_changed()
    assert KEYS[1] in ours


def test_a_store_that_is_passed_to_a_spawned_process_finds_what_is_written(tmp_path):
    store = _store(tmp_path)
    store.add(KEYS[0], torch.ones(2))
    store.flush()
    passed = pickle.loads(pickle.dumps(store))
    assert KEYS[0] in passed
    assert KEYS[1] not in passed


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), OSError(30, "Read-only file system")])
def test_a_disk_that_takes_nothing_ends_no_training(error, tmp_path, monkeypatch):
    store = _store(tmp_path)
    store.add(KEYS[0], torch.ones(2))
    store.flush()

    def refuse(*_args, **_kwargs):
        raise error

    for name in ("write_shard", "write_atomic", "delete_abandoned"):
        monkeypatch.setattr(f"nextgpt_pl.features.disk.{name}", refuse)
    store = FeatureStore(tmp_path, {"weights": "a"}, torch.float32)
    assert torch.equal(store.get(KEYS[0]), torch.ones(2))  # what is there is read
    store.add(KEYS[1], torch.zeros(2))
    with pytest.warns(UserWarning, match=rf"cannot be written \(.*{error.strerror}.*\); 1 features are not kept"):
        store.flush()
    assert (store.dropped, store.get(KEYS[1])) == (1, None)


def test_the_damaged_description_of_another_producer_stops_nobody(tmp_path):
    for number, text in enumerate(("", "[" * 100_000, "[]", "\0")):
        (tmp_path / f"captions-{number}").mkdir()
        (tmp_path / f"captions-{number}" / "manifest.json").write_text(text)
    store = FeatureCache(tmp_path).store("captions", "pocket:image", {"weights": "a"})
    store.add(KEYS[0], torch.ones(2))
    store.flush()
    assert len(store) == 1


def test_half_precision_gives_the_same_before_and_after_writing(tmp_path):
    store = _store(tmp_path, torch.float16)
    value = torch.randn(50)
    (before,) = store.fetch(KEYS[:1], lambda _: value.unsqueeze(0))
    store.flush()
    assert torch.equal(store.get(KEYS[0]), before)
    assert torch.equal(before, value.half().float())
    with pytest.raises(UserError, match=r"not finite in torch\.float16; set network\.cache\.dtype=float32"):
        store.add(KEYS[1], torch.full((50,), 1e6))


def _shard(folder, values, dtype=torch.float32):
    store = _store(folder, dtype)
    for key, value in zip(KEYS, values, strict=False):
        store.add(key, value)
    store.flush()
    (shard,) = folder.glob("*.safetensors")
    return shard


def test_a_cut_shard_is_named_and_made_again(tmp_path):
    shard = _shard(tmp_path, torch.ones(1, 2))
    shard.write_bytes(shard.read_bytes()[:20])
    with pytest.warns(UserWarning, match=f"{shard.name} is damaged"):
        store = _store(tmp_path)
    assert KEYS[0] not in store
    (found,) = store.fetch(KEYS[:1], lambda at: torch.ones(len(at), 2))
    assert torch.equal(found, torch.ones(2))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_flipped_bits_are_noticed_named_and_computed_anew(dtype, tmp_path):
    values = torch.randn(4, 3, 2).to(dtype)
    shard = _shard(tmp_path, values, dtype)
    data = bytearray(shard.read_bytes())
    at = bytes(data).index(values[2].numpy().tobytes())
    data[at + 5] ^= 0b100
    shard.write_bytes(data)
    store, made = _store(tmp_path, dtype), []
    with pytest.warns(UserWarning, match=rf"{shard.name}: the value in row 2 is damaged \(checksum\)"):
        assert store.missing(KEYS[:4]) == [2]  # what is asked before the network runs
    found = store.fetch(KEYS[:4], lambda at: made.extend(at) or values[at].float())
    assert made == [2]
    assert torch.equal(torch.stack(found), values.float())
    store.flush()
    with warnings.catch_warnings():  # the later shard counts
        warnings.simplefilter("error")
        again = _store(tmp_path, dtype).fetch(KEYS[:4], lambda at: pytest.fail(f"made again: {at}"))
    assert torch.equal(torch.stack(again), values.float())


def test_a_flipped_key_costs_its_own_value_alone(tmp_path):
    shard = _shard(tmp_path, torch.arange(8.0).view(4, 2))
    data = bytearray(shard.read_bytes())
    data[bytes(data).index(KEYS[1])] ^= 1
    shard.write_bytes(data)
    assert _store(tmp_path).missing(KEYS[:4]) == [1]


def test_shards_without_checksums_are_read(tmp_path):
    shard = _shard(tmp_path, torch.arange(8.0).view(4, 2))
    tensors = {name: tensor.clone() for name, tensor in load_file(shard).items()}  # not mapped from the file
    del tensors["checksums"]
    save_file(tensors, shard)
    assert torch.equal(_store(tmp_path).get(KEYS[3]), torch.tensor([6.0, 7.0]))
    tensors["values"][3, 1] = float("nan")
    save_file(tensors, shard)
    with pytest.warns(UserWarning, match=r"the value in row 3 is damaged \(not finite\)"):
        assert _store(tmp_path).missing(KEYS[:4]) == [3]


def test_a_shard_of_another_producer_is_not_read(tmp_path):
    shard = _shard(tmp_path / "captions-a", torch.ones(4, 2))
    (tmp_path / "captions-b").mkdir()
    shutil.copy(shard, tmp_path / "captions-b")
    with pytest.warns(UserWarning, match=rf"{shard.name} is damaged \(it is a shard of captions-a\)"):
        assert KEYS[0] not in _store(tmp_path / "captions-b")


def test_what_a_killed_process_left_is_cleared_a_day_later(tmp_path):
    _shard(tmp_path, torch.ones(1, 2))
    old, new = tmp_path / ".x.safetensors.1.partial", tmp_path / ".y.safetensors.2.partial"
    for path, age in ((old, 25), (new, 23)):
        path.write_bytes(b"half")
        os.utime(path, (time.time() - age * 3600,) * 2)
    _store(tmp_path)
    assert (old.exists(), new.exists()) == (False, True)


def test_a_full_memory_keeps_what_it_has():
    memory = Memory(max_bytes=2 * (8 + 1024))  # an entry counts as 1,024 bytes more than its value
    for epoch in range(2):
        made = []
        memory.fetch(KEYS[:4], lambda at, made=made: made.extend(at) or torch.zeros(len(at), 2))
        assert made == [[0, 1, 2, 3], [2, 3]][epoch]


def test_a_memory_of_what_was_asked_for_last_makes_room():
    memory = Memory(max_bytes=2 * (8 + 1024), evict=True)
    for key in (0, 1, 0, 2):
        memory.fetch([KEYS[key]], lambda at: torch.zeros(len(at), 2))
    assert [KEYS[key] in memory for key in range(3)] == [True, False, True]
    assert memory.bytes <= memory.max_bytes
    memory.add(KEYS[3], torch.zeros(2000))  # larger than all there is
    assert len(memory) == 2


@pytest.mark.parametrize("evict", [True, False])
def test_a_memory_of_small_values_is_bounded_too(evict):
    memory = Memory(max_bytes=2**16, evict=evict)
    for number in range(1000):
        memory.add(number, torch.zeros(1))
    assert len(memory) == 2**16 // (4 + 1024)


def test_names_follow_the_content_and_hold_no_array(tmp_path):
    file = tmp_path / "x.png"
    file.write_bytes(b"one")
    medium = Media(Modality.IMAGE, file)
    first = media_name(medium)
    assert media_name(Media(Modality.IMAGE, file)) == first
    file.write_bytes(b"three")
    assert media_name(medium) != first
    sounds = [
        Media(Modality.AUDIO, lambda v=v: np.full(4, v, np.float32), rate) for v, rate in ((1, 8), (1, 8), (1, 9))
    ]
    names = [media_name(sound) for sound in sounds]
    assert names[0] == names[1] != names[2]
    assert {type(name) for name in (first, *names)} == {bytes}


def test_other_weights_make_the_old_features_stale(tmp_path):
    cache = FeatureCache(tmp_path)
    cache.store("encoder-image", "there", {"weights": "a", "clips": 1}).add(KEYS[0], torch.ones(2))
    cache.flush()
    assert cache.counts() == {next(tmp_path.iterdir()).name: 1}
    with pytest.warns(UserWarning, match=r"stale: other weights; its features are not used"):
        other = FeatureCache(tmp_path).store("encoder-image", "there", {"weights": "b", "clips": 1})
    assert KEYS[0] not in other
    with warnings.catch_warnings(action="error"):  # another encoder altogether is no news
        FeatureCache(tmp_path).store("encoder-image", "elsewhere", {"weights": "c", "clips": 1})
    assert {json.loads(m.read_text())["weights"] for m in tmp_path.glob("*/manifest.json")} == {"a", "b", "c"}


def test_keys_follow_the_content(tmp_path):
    file = tmp_path / "x.png"
    file.write_bytes(b"one")
    medium = Media(Modality.IMAGE, file)
    first = media_key(medium)
    (tmp_path / "copy.png").write_bytes(b"one")
    assert media_key(Media(Modality.IMAGE, tmp_path / "copy.png")) == first
    file.write_bytes(b"three")
    assert media_key(medium) != first
    pocket = [items.captioned_pair("train", Modality.IMAGE, i).media for i in (0, 0, 1)]
    assert media_key(pocket[0]) == media_key(pocket[1]) != media_key(pocket[2])
    arrays = [Media(Modality.AUDIO, lambda v=v: np.full(4, v, np.float32), 16_000) for v in (1, 1, 2)]
    assert media_key(arrays[0]) == media_key(arrays[1]) != media_key(arrays[2])
