import pytest
import torch

from nextgpt_pl.losses import (
    caption_alignment,
    denoising_loss,
    denoising_target,
    min_snr_weights,
    shifted_labels,
)


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


@pytest.mark.parametrize("kind", ["epsilon", "v", "sample", "flow"])
def test_min_snr_weighs_the_error_of_the_latents(kind):
    """Whatever is predicted: its weighted error is that of the latents it means, times min(SNR, gamma)."""
    torch.manual_seed(0)
    sigma = torch.rand(16, dtype=torch.float64) * 0.9 + 0.05
    alpha = 1 - sigma if kind == "flow" else (1 - sigma.square()).sqrt()
    latents, noise, error = torch.randn(3, 16, 5, dtype=torch.float64)
    a, s = alpha.unsqueeze(1), sigma.unsqueeze(1)
    noisy = a * latents + s * noise
    predicted = denoising_target(kind, latents, noise, a, s) + error
    meant = {
        "epsilon": (noisy - s * predicted) / a,
        "v": a * noisy - s * predicted,
        "sample": predicted,
        "flow": noisy - s * predicted,
    }[kind]
    snr = (alpha / sigma).square()
    wanted = ((meant - latents).square().mean(1) * snr.clamp(max=5)).mean()
    weights = min_snr_weights(alpha, sigma, kind, 5.0)
    found = denoising_loss(predicted, denoising_target(kind, latents, noise, a, s), weights)
    torch.testing.assert_close(found, wanted)
    assert snr.max() > 5 > snr.min()


def test_weights_are_per_sample_and_not_averaged_away():
    predicted, target = torch.tensor([[1.0], [2.0]]), torch.zeros(2, 1)
    assert denoising_loss(predicted, target, torch.tensor([3.0, 0.5])).item() == (3.0 + 2.0) / 2
    with pytest.raises(ValueError, match="weights"):
        denoising_loss(predicted, target, torch.tensor(1.0))


def test_weights_are_finite_at_both_ends_of_the_noise():
    ends = torch.tensor([0.0, 1.0])
    for kind in ("epsilon", "v", "sample", "flow"):
        assert torch.isfinite(min_snr_weights(ends, 1 - ends, kind)).all()
