"""Whatever is in a feature cache: the value that was written, or none; never another one."""

import shutil

import pytest
import torch
from exploring import exploration
from hypothesis import strategies as st
from mutations import DAMAGES, VALUES, damaged, json_text, mutated
from safetensors.torch import load_file, save_file

from nextgpt_pl.features import FeatureCache
from nextgpt_pl.features.keys import digest

KEYS = [digest("item", str(number)) for number in range(8)]
PRODUCER = {"weights": "a", "clips": 1}
DTYPES = ["float32", "float16", "float8_e4m3fn"]


def _open(folder, dtype, producer=None):
    return FeatureCache(folder, dtype).store("encoder-image", "here", producer or PRODUCER)


class Written:
    """A cache of each dtype: its folder, its values and its files' bytes."""

    def __init__(self, root):
        self.values, self.files = {}, {}
        for dtype in DTYPES:
            store = _open(root / dtype, dtype)
            for part in (slice(0, 5), slice(5, 8)):  # two shards
                store.add_each(KEYS[part], torch.randn(len(KEYS[part]), 3, 4))
                store.flush()
            self.values[dtype] = [store.get(key) for key in KEYS]
            folder = store.folder
            self.files[dtype] = {p.relative_to(root / dtype): p.read_bytes() for p in folder.iterdir()}

    def restore(self, root, dtype):
        """The files anew, in another folder; the shards' names."""
        shutil.rmtree(root, ignore_errors=True)
        for name, content in self.files[dtype].items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(content)
        return sorted(name for name in self.files[dtype] if name.suffix == ".safetensors")

    def check(self, root, dtype):
        """What is found is what was written; what is not is made again, and is there from then on."""
        store = _open(root, dtype)
        found = [store.get(key) for key in KEYS]
        for value, expected in zip(found, self.values[dtype], strict=True):
            assert value is None or torch.equal(value, expected)
        made = store.fetch(KEYS, lambda at: torch.stack([self.values[dtype][i] for i in at]))
        for value, expected in zip(made, self.values[dtype], strict=True):
            assert torch.allclose(value, expected, rtol=0.1)  # rounded twice, where it was made again
        store.flush()
        assert all(value is not None for value in _open(root, dtype).get_each(KEYS))
        missing = sum(value is None for value in found)
        return "all there" if not missing else "none there" if missing == len(KEYS) else "some there"


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    torch.manual_seed(0)
    return Written(tmp_path_factory.mktemp("written"))


@exploration(few=6, many=200)
@pytest.mark.filterwarnings("ignore:feature cache")
def test_a_damaged_shard_gives_no_other_value(explore, written, tmp_path):
    def read(dtype, which, damages):
        name = written.restore(tmp_path / "cache", dtype)[which]
        (tmp_path / "cache" / name).write_bytes(damaged(written.files[dtype][name], damages))
        return written.check(tmp_path / "cache", dtype)

    explore(read, dtype=st.sampled_from(DTYPES), which=st.integers(0, 1), damages=DAMAGES)


def _change(draw, tensors):
    """One change of a shard's tensors."""
    name = draw(st.sampled_from(sorted(tensors)))
    value = tensors[name].clone()
    kind = draw(st.sampled_from(["nan", "inf", "roll", "drop", "dtype", "shape", "longer", "swap rows", "zero"]))
    if kind in ("nan", "inf") and value.dtype in (torch.float32, torch.float16):
        value.view(-1)[draw(st.integers(0, value.numel() - 1))] = float(kind)
    elif kind == "roll":
        value = value.roll(1, 0)
    elif kind == "dtype":
        value = value.to(draw(st.sampled_from([torch.int32, torch.float64, torch.bool, torch.bfloat16])))
    elif kind == "shape":
        value = value.reshape(-1, 1)
    elif kind == "longer":
        value = torch.cat([value, value])
    elif kind == "zero":
        value = torch.zeros_like(value)
    changed = {**tensors, name: value.contiguous()}
    if kind == "drop":
        del changed[name]
    return changed


@st.composite
def _changed(draw, shards):
    return _change(draw, draw(st.sampled_from(shards)))


@exploration(few=4, many=150)
@pytest.mark.filterwarnings("ignore:feature cache")
def test_a_shard_with_other_tensors_gives_no_other_value(explore, written, tmp_path):
    shards = {}
    for dtype in DTYPES:
        name = written.restore(tmp_path / "cache", dtype)[0]
        shards[dtype] = load_file(tmp_path / "cache" / name)

    def read(file):
        dtype, tensors = file
        name = written.restore(tmp_path / "cache", dtype)[0]
        save_file(tensors, tmp_path / "cache" / name)
        return written.check(tmp_path / "cache", dtype)

    files = st.sampled_from(DTYPES).flatmap(lambda dtype: st.tuples(st.just(dtype), _changed([shards[dtype]])))
    explore(read, file=files)


@exploration(few=2, many=50)
@pytest.mark.filterwarnings("ignore:feature cache")
def test_a_shard_of_another_producer_gives_none(explore, written, tmp_path):
    def read(dtype, other, which):
        name = written.restore(tmp_path / "cache", dtype)[which]
        stranger = _open(tmp_path / "cache", dtype, {"weights": "b", "clips": other})
        shutil.copy(tmp_path / "cache" / name, stranger.folder)
        stranger.refresh()
        found = stranger.get_each(KEYS)
        same = stranger.folder == (tmp_path / "cache" / name).parent
        assert same or all(value is None for value in found)
        return f"{dtype}, shard {which}"

    explore(read, dtype=st.sampled_from(DTYPES), other=st.integers(1, 3), which=st.integers(0, 1))


@exploration(few=3, many=50)
@pytest.mark.filterwarnings("ignore")
def test_a_changed_manifest_stops_nobody(explore, written, tmp_path):
    def read(manifest, damages):
        written.restore(tmp_path / "cache", "float32")
        (file,) = (tmp_path / "cache").glob("*/manifest.json")
        content = damaged(file.read_bytes(), damages) if damages else json_text(manifest).encode()
        file.write_bytes(content)
        _open(tmp_path / "cache", "float32", {"weights": "b"})
        return f"{written.check(tmp_path / 'cache', 'float32')}, {'damaged' if damages else 'changed'}"

    explore(read, manifest=mutated([PRODUCER], VALUES), damages=st.one_of(st.just([]), DAMAGES))
