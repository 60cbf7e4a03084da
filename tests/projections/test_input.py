import pytest
import torch

from nextgpt_pl.projections import (
    GroupingInputProjection,
    LinearInputProjection,
    MLPInputProjection,
    QFormerInputProjection,
    TransformerInputProjection,
)

SMALL = {
    "linear": (LinearInputProjection, {}, 5),
    "mlp": (MLPInputProjection, {"width": 24, "expand": 3}, 15),
    "transformer": (TransformerInputProjection, {"num_tokens": 4, "width": 24, "layers": 1}, 4),
    "qformer": (QFormerInputProjection, {"num_tokens": 4, "width": 24, "layers": 1, "heads": 2}, 4),
    "grouping": (GroupingInputProjection, {"width": 24, "groups": (4, 2), "depths": (1, 1, 1), "heads": 2}, 2),
}


@pytest.mark.parametrize("name", SMALL)
def test_shapes_and_gradients(name):
    torch.manual_seed(0)
    kind, arguments, expected = SMALL[name]
    projection = kind(12, 16, **arguments)
    features = torch.randn(3, 5, 12, requires_grad=True)
    out = projection(features)
    assert out.shape == (3, expected, 16)
    assert projection.tokens(5) == expected
    out.square().sum().backward()
    without = [n for n, p in projection.named_parameters() if p.ndim > 1 and p.grad is None]
    assert not without
    assert features.grad.abs().sum() > 0


@pytest.mark.parametrize("name", SMALL)
def test_an_item_does_not_depend_on_its_batch(name):
    torch.manual_seed(0)
    kind, arguments, _ = SMALL[name]
    projection = kind(12, 16, **arguments).eval()
    features = torch.randn(3, 5, 12)
    torch.testing.assert_close(projection(features)[1:2], projection(features[1:2]), atol=1e-5, rtol=1e-4)


def test_expanded_tokens_differ_and_stand_in_order():
    projection = MLPInputProjection(12, 16, width=24, expand=2)
    features = torch.randn(1, 3, 12)
    out = projection(features)
    assert not torch.allclose(out[0, 0], out[0, 1])
    torch.testing.assert_close(projection(features[:, 1:2])[0], out[0, 2:4])


def test_the_paper_size_grouping_has_the_official_number_of_parameters():
    with torch.device("meta"):
        projection = GroupingInputProjection(1024, 4096)
    assert sum(p.numel() for p in projection.parameters()) == 53_144_912


def test_mistakes_are_named():
    with pytest.raises(ValueError, match="depth=1: expected at least 2 layers"):
        MLPInputProjection(12, 16, depth=1)
    with pytest.raises(ValueError, match="expand=0"):
        MLPInputProjection(12, 16, expand=0)
    with pytest.raises(ValueError, match=r"depths=\(1, 1\): expected one more entry than groups=\(4, 2\)"):
        GroupingInputProjection(12, 16, width=24, groups=(4, 2), depths=(1, 1))
    for kind in (TransformerInputProjection, QFormerInputProjection, GroupingInputProjection):
        with pytest.raises(ValueError, match="width=10 is not divisible by heads=4"):
            kind(12, 16, width=10, heads=4)
