import json

import pytest
import torch
from safetensors.torch import load_file

from nextgpt_pl.projections import LinearOutputProjection, MLPOutputProjection, TransformerOutputProjection

NAMES = {"image": ("", 4, 77, 768), "video": ("_video", 24, 77, 1024), "audio": ("_audio", 8, 1, 512)}


@pytest.mark.parametrize("kind", [LinearOutputProjection, MLPOutputProjection, TransformerOutputProjection])
def test_shapes_and_gradients(kind):
    projection = kind(16, 4, 7, 12)
    states = torch.randn(3, 4, 16, requires_grad=True)
    out = projection(states, torch.randn(3, 4, 16))
    assert out.shape == (3, 7, 12)
    out.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in projection.parameters() if p.ndim > 1)
    assert states.grad.abs().sum() > 0


@pytest.mark.parametrize("modality", list(NAMES))
def test_transformer_equals_the_official_one(shared, modality):
    folder = shared / "golden" / "official" / "legacy_output_projection_transformer"
    weights = load_file(folder / "checkpoint_stage2_fp16.safetensors")
    numbers = load_file(folder / "io_tiny.safetensors")
    width = json.loads((folder / "meta.json").read_text())["inner_width_tiny"]
    suffix, tokens, length, dim = NAMES[modality]
    prefix = f"gen_text_hidden_fcs{suffix}.0."
    projection = TransformerOutputProjection(64, tokens, length, dim, width=width, dropout=0.0).eval()
    projection.load_state_dict({k.removeprefix(prefix): v.float() for k, v in weights.items() if k.startswith(prefix)})
    with torch.no_grad():
        out = projection(numbers[f"{modality}.hidden_states"], numbers[f"{modality}.input_embeddings"])
    torch.testing.assert_close(out, numbers[f"{modality}.output"], atol=2e-5, rtol=0)


def test_the_paper_size_is_the_papers():
    with torch.device("meta"):
        counts = [
            sum(p.numel() for p in TransformerOutputProjection(4096, tokens, length, dim).parameters())
            for _, tokens, length, dim in NAMES.values()
        ]
    assert [round(c / 1e6) for c in counts] == [32, 32, 32]


def test_heads_must_divide_the_width():
    with pytest.raises(ValueError, match="width=10 is not divisible by heads=4"):
        TransformerOutputProjection(16, 4, 7, 12, width=10)
