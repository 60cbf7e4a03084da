import pytest
import torch

from nextgpt_pl.losses import caption_alignment, shifted_labels, token_cross_entropy


def test_l2_is_a_distance_and_mse_a_mean_square():
    predicted, target = torch.zeros(1, 2, 2), torch.tensor([[[3.0, 4.0], [0.0, 0.0]]])
    assert caption_alignment(predicted, target, "mse").item() == pytest.approx(25 / 4)
    assert caption_alignment(predicted, target, "l2").item() == pytest.approx(2.5, abs=1e-5)


def test_l2_has_a_gradient_where_the_difference_is_zero():
    predicted = torch.zeros(1, 2, 2, requires_grad=True)
    caption_alignment(predicted, torch.zeros(1, 2, 2), "l2").backward()
    assert torch.isfinite(predicted.grad).all()


def test_shapes_are_never_broadcast():
    with pytest.raises(ValueError, match=r"\(2, 77, 768\), caption embedding \(2, 77, 1024\)"):
        caption_alignment(torch.zeros(2, 77, 768), torch.zeros(2, 77, 1024))


def test_shifted_labels_predict_the_next_token():
    labels = torch.tensor([[-100, 5, 6], [7, -100, 8]])
    mask, following = shifted_labels(labels)
    assert mask.tolist() == [[True, True, False], [False, True, False]]
    assert following.tolist() == [5, 6, 8]


def test_cross_entropy_equals_the_one_over_all_positions():
    torch.manual_seed(0)
    logits, labels = torch.randn(2, 5, 9), torch.randint(0, 9, (2, 5))
    labels[0, :3] = -100
    mask, following = shifted_labels(labels)
    ours, accuracy = token_cross_entropy(logits[mask], following)
    theirs = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100)
    assert ours.item() == pytest.approx(theirs.item(), abs=1e-6)
    assert 0 <= accuracy <= 1
