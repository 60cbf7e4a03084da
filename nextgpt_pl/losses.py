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
        ValueError: the shapes differ; broadcasting would train on nonsense.

    """
    if predicted.shape != target.shape:
        raise ValueError(f"projected signal tokens {tuple(predicted.shape)}, caption embedding {tuple(target.shape)}")
    difference = predicted - target
    # the gradient of a norm at zero is not a number: keep away from it
    distances = difference.square() if kind == "mse" else (difference.square().sum(-1) + 1e-12).sqrt()
    return distances.flatten(1).mean(1).sum() / (len(predicted) if count is None else count)


def denoising_target(kind: DenoisingTarget, latents: Tensor, noise: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """What the denoiser is to predict for ``alpha * latents + sigma * noise``.

    Args:
        kind: the noise; the velocity ``alpha * noise - sigma * latents``; the latents; or the flow ``noise - latents``.
        latents: clean ones, any shape.
        noise: same shape.
        alpha: share of the latents, broadcastable.
        sigma: share of the noise, broadcastable.

    """
    if kind == "epsilon":
        return noise
    if kind == "v":
        return alpha * noise - sigma * latents
    return latents if kind == "sample" else noise - latents


def min_snr_weights(alpha: Tensor, sigma: Tensor, kind: DenoisingTarget, gamma: float = 5.0) -> Tensor:
    """Weight of each sample's squared error (Hang et al. 2023, "Efficient Diffusion Training via Min-SNR Weighting").

    The error of the latents that follow from the prediction weighs ``min(SNR, gamma)``; this is what that makes for the
    prediction itself. One weight per sample, which must not be averaged before it is multiplied.

    Args:
        alpha: ``(N,)`` share of the signal.
        sigma: ``(N,)`` share of the noise.
        kind: what is predicted.
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
    """How far the tokens of media, read in order, are from spelling their captions; 0 if they surely do.

    Connectionist temporal classification (Graves et al. 2006) without a blank: each token is a word of the caption, the
    same as the token before it or the next one, and all such readings count. So tokens need not know in advance which
    word is theirs, but which word belongs to which object is told by their order. A word that follows itself counts
    once, and a caption longer than its tokens is cut.

    Args:
        log_probs: ``(N, P, V)``, shares of the words in the P tokens of each medium; those of a token sum to one.
        captions: per medium its caption's word ids, one dimension, at least one word each; on a GPU, reading them is a
            host synchronisation.
        count: divisor of the sum over words; the number of words by default, 1 for the sum.

    """
    media, tokens, _ = log_probs.shape
    words = [caption.unique_consecutive()[:tokens] for caption in captions]
    # of the LLM's whole vocabulary only the captions' words are looked at
    used, places = (upload(x, log_probs.device) for x in torch.cat(words).unique(return_inverse=True))
    shares = log_probs[..., used]
    # the operation's gradient is right only where all shares sum to one: the other words are one more
    others = (1 - shares.exp().sum(-1, keepdim=True)).clamp(min=1e-8).log()
    # and it wants a blank: a word that nothing is
    shares = F.pad(torch.cat([shares, others], dim=-1), (0, 1), value=_NEVER).transpose(0, 1)
    lengths = torch.tensor([len(w) for w in words])
    loss = F.ctc_loss(shares, places, torch.full((media,), tokens), lengths, blank=len(used) + 1, reduction="sum")
    return loss / (float(lengths.sum()) if count is None else count)


def shifted_labels(labels: Tensor) -> tuple[Tensor, Tensor]:
    """Which positions of ``(B, T)`` labels predict something, and what.

    Returns:
        A mask ``(B, T)`` of the positions whose *next* token has a label, and those labels ``(N,)`` in order.

    """
    following = torch.full_like(labels, -100)
    following[:, :-1] = labels[:, 1:]
    mask = following != -100
    return mask, following[mask]
