"""``tests/golden/official``: what lies there is what was recorded, and samples of an output tell a wrong one."""

import json

import pytest
import torch
from golden_official import TEXTS, assert_golden, samples, unpack
from safetensors.torch import load_file

CLOSE = {"rtol": 1e-5, "atol": 2e-5}


@pytest.mark.parametrize("place", [(0, 5, 7), (0, 3, 2), (1, 76, 99)])
def test_samples_tell_a_wrong_output(place):
    right = torch.randn(2, 77, 100, generator=torch.Generator().manual_seed(0))
    numbers = {f"x#{kind}": values for kind, values in samples(right).items()}
    assert_golden(right, numbers, "x", **CLOSE)
    wrong = right.clone()
    wrong[place] += 1e-3
    with pytest.raises(AssertionError):
        assert_golden(wrong, numbers, "x", **CLOSE)


def test_what_is_here_is_what_was_recorded(shared, tmp_path):
    recorded = shared / "golden" / "official"
    files = sorted(path.relative_to(tmp_path) for path in unpack(tmp_path).rglob("*.safetensors"))
    assert len(files) == 21
    for file in files:
        numbers, expected = load_file(tmp_path / file), load_file(recorded / file)
        for name in {key.split("#")[0] for key in numbers}:
            if name in numbers:
                assert numbers[name].dtype == expected[name].dtype, (file, name)
                assert torch.equal(numbers[name], expected[name]), (file, name)
            assert_golden(expected[name], numbers, name, rtol=0.0, atol=0.0)
    for name, keys in TEXTS.items():
        content = json.loads((recorded / name).read_text())
        assert json.loads((tmp_path / name).read_text()) == {k: v for k, v in content.items() if not keys or k in keys}
    pickled = "legacy_output_projection_transformer/pytorch_model_stage3_fp16.pt"
    ours, theirs = (torch.load(folder / pickled, weights_only=True) for folder in (tmp_path, recorded))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
