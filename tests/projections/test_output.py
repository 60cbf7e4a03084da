import pytest
import torch

from nextgpt_pl.projections import (
    LinearOutputProjection,
    MLPOutputProjection,
    QFormerOutputProjection,
    TransformerOutputProjection,
)

NAMES = {"image": ("", 4, 77, 768), "video": ("_video", 24, 77, 1024), "audio": ("_audio", 8, 1, 512)}


KINDS = [LinearOutputProjection, MLPOutputProjection, QFormerOutputProjection, TransformerOutputProjection]


@pytest.mark.parametrize("kind", KINDS)
def test_shapes_and_gradients(kind):
    projection = kind(16, 4, 7, 12)
    states = torch.randn(3, 4, 16, requires_grad=True)
    out = projection(states, torch.randn(3, 4, 16))
    assert out.shape == (3, 7, 12)
    out.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in projection.parameters() if p.ndim > 1)
    assert states.grad.abs().sum() > 0


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
