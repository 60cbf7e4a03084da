"""Dtypes on disk: what they keep, and the error that is reported."""

import math

import pytest
import torch
from safetensors.torch import load_file

from nextgpt_pl.errors import UserError
from nextgpt_pl.features import FeatureCache, FeatureStore
from nextgpt_pl.features.keys import digest
from nextgpt_pl.features.rounding import DTYPES, RoundingError, element_bytes, rounded

KEYS = [digest("item", str(i)) for i in range(6)]
FP8 = torch.float8_e4m3fn


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_gives_the_same_before_and_after_writing(tmp_path, dtype):
    values = torch.randn(6, 3, 32, generator=torch.Generator().manual_seed(0))
    store = FeatureCache(tmp_path, dtype).store("encoder-image", "there", {"weights": "a"})
    before = torch.stack(store.fetch(KEYS, lambda at: values[at]))
    store.flush()
    after = FeatureCache(tmp_path, dtype).store("encoder-image", "there", {"weights": "a"}).get_each(KEYS)
    assert torch.equal(torch.stack(after), before)
    assert torch.stack(after).dtype == torch.float32
    bits = {"float32": 24, "float16": 11, "bfloat16": 8, "float8_e4m3fn": 4}[dtype]
    largest = ((before - values).norm(dim=(1, 2)) / values.norm(dim=(1, 2))).max().item()
    assert 2 ** -(bits + 3) * (dtype != "float32") <= largest <= 2**-bits
    assert store.error.largest == pytest.approx(largest, rel=1e-3)
    assert store.error.count == (0 if dtype == "float32" else 6)
    (shard,) = store.folder.glob("*.safetensors")
    tensors = load_file(shard)
    assert sum(tensors[name].nbytes for name in tensors.keys() & {"values", "scales"}) == 6 * 3 * 32 * element_bytes(
        dtype, 32
    )
    assert store.bytes_on_disk() == shard.stat().st_size


def test_each_vector_has_its_own_scale_in_float8(tmp_path):
    """A vector a million times smaller than its neighbour keeps its precision; one of zeros stays zero."""
    vector = torch.linspace(-1, 1, 64)
    value = torch.stack([vector, vector * 1e-6, vector * 0, vector * 3e38, vector * 1e-44])
    store = FeatureStore(tmp_path, {}, FP8)
    store.add(KEYS[0], value)
    store.flush()
    kept = FeatureStore(tmp_path, {}, FP8).get(KEYS[0])
    for row, size in enumerate((1, 1e-6, 0, 3e38)):
        # to the nearest of 4 bits, and of the smallest numbers to a 2^-10th of the 448 that is the largest
        assert torch.allclose(kept[row] / max(size, 1), value[row] / max(size, 1), rtol=2**-4, atol=1e-5 * min(size, 1))
        assert kept[row].abs().max() == pytest.approx(size, rel=1e-6)
    assert torch.isfinite(kept).all()


def test_flipped_bits_of_a_scale_are_noticed(tmp_path):
    store = FeatureStore(tmp_path, {}, FP8)
    store.add_each(KEYS, torch.rand(6, 2, 8) + 1)
    store.flush()
    (shard,) = tmp_path.glob("*.safetensors")
    data = bytearray(shard.read_bytes())
    data[bytes(data).index(load_file(shard)["scales"][4].numpy().tobytes()) + 4] ^= 8
    shard.write_bytes(data)
    with pytest.warns(UserWarning, match=r"the value in row 4 is damaged \(checksum\)"):
        assert FeatureStore(tmp_path, {}, FP8).missing(KEYS) == [4]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_features_that_are_not_finite_are_refused_in_every_dtype(tmp_path, dtype, number):
    store = FeatureStore(tmp_path, {}, getattr(torch, dtype))
    with pytest.raises(UserError, match=f"{tmp_path}: a computed feature is not finite, in any dtype"):
        store.add_each(KEYS[:2], torch.tensor([[1.0, 2.0], [1.0, number]]))
    assert len(store) == 0


def test_what_float16_cannot_hold_float8_holds_by_its_scale():
    assert rounded(torch.tensor([1e6, -5e5]), FP8).value().tolist() == [1e6, -5e5]


def test_relative_errors_are_of_whole_values_and_add_up():
    error, other = RoundingError(), RoundingError()
    error.add(torch.tensor([[3.0, 4.0], [0.0, 0.0]]), torch.tensor([[3.0, 4.5], [0.0, 0.0]]))
    other.add(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.7, 0.0]]))
    both = error + other
    assert (both.count, both.largest) == (3, pytest.approx(0.3))
    assert both.root_mean_square == pytest.approx(math.sqrt((0.1**2 + 0.3**2) / 3))
    assert str(both) == "relative error 0.18 (root mean square), at most 0.3"
    assert RoundingError().root_mean_square == 0


def test_features_of_earlier_versions_keep_their_folders(tmp_path):
    """Their names as they were before there were other dtypes; other names compute all features anew."""
    producer = {"weights": "a", "version": 1}
    names = [FeatureCache(tmp_path / d, d).store("captions", "x", producer).folder.name for d in DTYPES]
    assert names[:2] == ["captions-308d4714876e7854", "captions-65c8bb8faf9ef002"]
    assert len(set(names)) == len(DTYPES)
