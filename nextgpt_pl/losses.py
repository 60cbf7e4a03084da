"""Losses of decoder alignment, as pure functions. Shapes: S spans, L tokens, D width."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

AlignmentLoss = Literal["mse", "l2"]


def caption_alignment(predicted: Tensor, target: Tensor, kind: AlignmentLoss = "mse") -> Tensor:
    """Distance between projected signal tokens and the caption embedding, averaged over spans and tokens.

    Args:
        predicted: ``(S, L, D)``.
        target: same shape.
        kind: ``mse``, the mean squared difference (paper, section 4.2), or ``l2``, the official code's Euclidean
            distance over the last axis.

    Raises:
        ValueError: the shapes differ; broadcasting would train on nonsense.

    """
    if predicted.shape != target.shape:
        raise ValueError(f"projected signal tokens {tuple(predicted.shape)}, caption embedding {tuple(target.shape)}")
    difference = predicted - target
    if kind == "mse":
        return difference.square().mean()
    # the gradient of a norm at zero is not a number: keep away from it
    return (difference.square().sum(-1) + 1e-12).sqrt().mean()


def token_cross_entropy(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Mean cross-entropy in nats and share of right predictions.

    Args:
        logits: ``(N, V)``, at the positions that predict a label only.
        labels: ``(N,)``.

    """
    return F.cross_entropy(logits.float(), labels), (logits.argmax(-1) == labels).float().mean()


def shifted_labels(labels: Tensor) -> tuple[Tensor, Tensor]:
    """Which positions of ``(B, T)`` labels predict something, and what.

    Returns:
        A mask ``(B, T)`` of the positions whose *next* token has a label, and those labels ``(N,)`` in order.

    """
    following = torch.full_like(labels, -100)
    following[:, :-1] = labels[:, 1:]
    mask = following != -100
    return mask, following[mask]
