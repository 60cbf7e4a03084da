"""Losses of the stages, as pure functions. Shapes: S spans, L tokens, D width."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

AlignmentLoss = Literal["mse", "l2"]


def caption_alignment(
    predicted: Tensor, target: Tensor, kind: AlignmentLoss = "mse", count: float | None = None
) -> Tensor:
    """Distance between projected signal tokens and the caption embedding, averaged over spans and tokens.

    Args:
        predicted: ``(S, L, D)``.
        target: same shape.
        kind: ``mse``, the mean squared difference (paper, section 4.2), or ``l2``, the official code's Euclidean
            distance over the last axis.
        count: what the sum over spans is divided by instead of S; see :func:`nextgpt_pl.distributed.per_process`.

    Raises:
        ValueError: the shapes differ; broadcasting would train on nonsense.

    """
    if predicted.shape != target.shape:
        raise ValueError(f"projected signal tokens {tuple(predicted.shape)}, caption embedding {tuple(target.shape)}")
    difference = predicted - target
    # the gradient of a norm at zero is not a number: keep away from it
    distances = difference.square() if kind == "mse" else (difference.square().sum(-1) + 1e-12).sqrt()
    return distances.flatten(1).mean(1).sum() / (len(predicted) if count is None else count)


def token_cross_entropy(logits: Tensor, labels: Tensor, count: float | None = None) -> tuple[Tensor, Tensor]:
    """Mean cross-entropy in nats and share of right predictions.

    Args:
        logits: ``(N, V)``, at the positions that predict a label only.
        labels: ``(N,)``.
        count: what the sums are divided by instead of N; see :func:`nextgpt_pl.distributed.per_process`.

    """
    count = len(labels) if count is None else count
    right = (logits.argmax(-1) == labels).float().sum()
    return F.cross_entropy(logits.float(), labels, reduction="sum") / count, right / count


def word_coverage(log_probs: Tensor, present: Tensor, documents: Tensor | None = None, share: float = 1.0) -> Tensor:
    """How far the tokens of media are from holding the words of their captions, 0 if each word is held in full.

    A word is held as far as its shares in the medium's tokens add up to 1, in whichever tokens they are. Words count by
    their inverse document frequency in the batch: those that all captions have tell nothing.

    Args:
        log_probs: ``(N, P, V)``, shares of the words in the P tokens of each medium.
        present: ``(N, V)`` bool, the words of each caption.
        documents: ``(1 + V,)``, how many captions there are, and how many of them have each word; by default those
            of ``present``. With several processes: of all of them.
        share: the part of those captions that a process has on average.

    """
    if documents is None:
        documents = document_counts(present)
    count, frequency = documents[0], documents[1:]
    rarity = torch.where(count > 1, (count / frequency.clamp(min=1)).log(), 1.0)
    held = log_probs.logsumexp(1).clamp(max=0.0)
    # the weights of all captions add up to the frequencies' product with the rarities
    return -(present * rarity * held).sum() / (share * (frequency * rarity).sum()).clamp(min=1e-6)


def document_counts(present: Tensor) -> Tensor:
    """How many captions there are, and how many of them have each word: ``(N, V)`` bool to ``(1 + V,)`` float32."""
    return torch.cat([present.new_full((1,), len(present), dtype=torch.float32), present.sum(0).float()])


def shifted_labels(labels: Tensor) -> tuple[Tensor, Tensor]:
    """Which positions of ``(B, T)`` labels predict something, and what.

    Returns:
        A mask ``(B, T)`` of the positions whose *next* token has a label, and those labels ``(N,)`` in order.

    """
    following = torch.full_like(labels, -100)
    following[:, :-1] = labels[:, 1:]
    mask = following != -100
    return mask, following[mask]
