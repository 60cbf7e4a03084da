"""Losses of the stages, as pure functions. Shapes: S spans, L tokens, D width."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from nextgpt_pl.utils.transfer import upload

AlignmentLoss = Literal["mse", "l2"]
DenoisingTarget = Literal["epsilon", "v", "sample", "flow"]

_NEVER = -1e4  # a log-probability


def caption_alignment(
    predicted: Tensor, target: Tensor, kind: AlignmentLoss = "mse", count: float | None = None
) -> Tensor:
    """Distance between projected signal tokens and the caption embedding, averaged over spans and tokens.

    Args:
        predicted: ``(S, L, D)``.
        target: same shape.
        kind: ``mse``, the mean squared difference (paper, section 4.2), or ``l2``, the official code's Euclidean
            distance over the last axis.
        count: divisor of the sum over spans; S by default, 1 for the sum.

    Raises:
        ValueError: the shapes differ; broadcasting would compute a wrong loss.

    >>> predicted, target = torch.zeros(1, 2, 2), torch.tensor([[[3.0, 4.0], [0.0, 0.0]]])
    >>> caption_alignment(predicted, target).item()
    6.25
    >>> round(caption_alignment(predicted, target, "l2").item(), 4)
    2.5

    """
    if predicted.shape != target.shape:
        raise ValueError(f"projected signal tokens {tuple(predicted.shape)}, caption embedding {tuple(target.shape)}")
    difference = predicted - target
    # the gradient of a norm at zero is NaN; the offset avoids it
    distances = difference.square() if kind == "mse" else (difference.square().sum(-1) + 1e-12).sqrt()
    return distances.flatten(1).mean(1).sum() / (len(predicted) if count is None else count)


def denoising_target(kind: DenoisingTarget, latents: Tensor, noise: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """What the denoiser is to predict for ``alpha * latents + sigma * noise``.

    Args:
        kind: the noise; the velocity ``alpha * noise - sigma * latents``; the latents; or the flow ``noise - latents``.
        latents: clean latents, any shape.
        noise: same shape.
        alpha: factor of the latents, broadcastable.
        sigma: factor of the noise, broadcastable.

    """
    if kind == "epsilon":
        return noise
    if kind == "v":
        return alpha * noise - sigma * latents
    return latents if kind == "sample" else noise - latents


def min_snr_weights(alpha: Tensor, sigma: Tensor, kind: DenoisingTarget, gamma: float = 5.0) -> Tensor:
    """Weight of each sample's squared error (Hang et al. 2023, "Efficient Diffusion Training via Min-SNR Weighting").

    The paper weights the error of the latents by ``min(SNR, gamma)``. These weights are the equivalent for the error of
    the prediction. There is one weight per sample; multiply before averaging over samples. An error of the flow is an
    error of the latents divided by sigma, so its weight is ``sigma**2 * min(SNR, gamma)``. With
    ``alpha = 1 - sigma`` this is ``alpha**2`` where SNR is below gamma, and at most 1.

    Args:
        alpha: ``(N,)`` factor of the signal.
        sigma: ``(N,)`` factor of the noise.
        kind: the denoiser's target.
        gamma: upper bound of the weight.

    """
    snr = (alpha / sigma.clamp(min=1e-6)).square()
    if kind == "epsilon":
        return (gamma / snr.clamp(min=1e-12)).clamp(max=1.0)
    weight = snr.clamp(max=gamma)
    if kind == "v":
        return weight / (snr + 1)
    return weight if kind == "sample" else weight * sigma.square()


def denoising_loss(predicted: Tensor, target: Tensor, weights: Tensor) -> Tensor:
    """Squared error, averaged within each sample, weighted, then averaged over samples.

    Args:
        predicted: ``(N, ...)``.
        target: same shape.
        weights: ``(N,)``.

    Raises:
        ValueError: the shapes differ.

    """
    if predicted.shape != target.shape or weights.shape != target.shape[:1]:
        shapes = [tuple(t.shape) for t in (predicted, target, weights)]
        raise ValueError(f"predicted {shapes[0]}, target {shapes[1]}, weights {shapes[2]}")
    return ((predicted - target).square().flatten(1).mean(1) * weights).mean()


def spelling_loss(log_probs: Tensor, captions: Sequence[Tensor], count: float | None = None) -> Tensor:
    """Negative log-likelihood of captions under the word distributions of media tokens.

    Connectionist temporal classification (Graves et al. 2006) without a blank: each token emits the same word as the
    token before it or the caption's next word, and the loss sums over all such alignments. Tokens have no fixed word,
    but words keep the caption's order. A word that follows itself counts once, and a caption longer than its tokens is
    truncated.

    Args:
        log_probs: ``(N, P, V)``, log-probabilities of the words for the P tokens of each medium.
        captions: per medium its caption's word ids, one dimension, at least one word each; on a GPU, reading them is a
            host synchronisation.
        count: divisor of the sum over words; the number of words by default, 1 for the sum.

    """
    media, tokens, _ = log_probs.shape
    words = [caption.unique_consecutive()[:tokens] for caption in captions]
    # only the captions' words are needed of the LLM's vocabulary
    vocabulary, targets = (upload(x, log_probs.device) for x in torch.cat(words).unique(return_inverse=True))
    selected = log_probs[..., vocabulary]
    # ctc_loss has a correct gradient only if probabilities sum to one: add a class for all other words
    other_words = (1 - selected.exp().sum(-1, keepdim=True)).clamp(min=1e-8).log()
    # ctc_loss requires a blank class: give it probability 0
    selected = F.pad(torch.cat([selected, other_words], dim=-1), (0, 1), value=_NEVER).transpose(0, 1)
    lengths = torch.tensor([len(w) for w in words])
    loss = F.ctc_loss(
        selected, targets, torch.full((media,), tokens), lengths, blank=len(vocabulary) + 1, reduction="sum"
    )
    return loss / (float(lengths.sum()) if count is None else count)


def shifted_labels(labels: Tensor) -> tuple[Tensor, Tensor]:
    """Which positions of ``(B, T)`` labels predict something, and what.

    Returns:
        A mask ``(B, T)`` of the positions whose *next* token has a label, and those labels ``(N,)`` in order.

    >>> mask, labels = shifted_labels(torch.tensor([[-100, -100, 7, 8]]))
    >>> mask.tolist(), labels.tolist()
    ([[False, True, True, False]], [7, 8])

    """
    following = torch.full_like(labels, -100)
    following[:, :-1] = labels[:, 1:]
    mask = following != -100
    return mask, following[mask]
