"""Cross-entropy from hidden states, with the logits of one chunk of positions at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

_LOGITS = 2**23  # 32 MiB in float32; with smaller chunks, the head's matrix product takes up to twice as long


def positions_at_once(vocab_size: int) -> int:
    """Number of positions per chunk of :func:`token_cross_entropy`, for a head of ``vocab_size`` rows."""
    return max(1, _LOGITS // vocab_size)


def token_cross_entropy(
    logits_of: Callable[[Tensor], Tensor],
    parameters: Sequence[Tensor],
    hidden: Tensor,
    labels: Tensor,
    chunk_size: int,
) -> tuple[Tensor, Tensor]:
    """Cross-entropy in nats and right predictions, each summed over the positions.

    Gradients are computed with the loss, chunk by chunk, so only the logits of one chunk are in memory. The usual
    computation needs four times the logits of all positions: 2 GB for 4,096 tokens and a vocabulary of 32,000.

    Args:
        logits_of: maps ``(N, H)`` to logits ``(N, V)``.
        parameters: those that ``logits_of`` reads.
        hidden: ``(N, H)``, at the positions that predict a label only.
        labels: ``(N,)``.
        chunk_size: number of positions per chunk.

    """
    trainable = [p for p in parameters if p.requires_grad]
    needs_gradient = torch.is_grad_enabled() and (hidden.requires_grad or bool(trainable))
    loss, right = _ChunkedCrossEntropy.apply(logits_of, labels, chunk_size, needs_gradient, hidden, *trainable)
    return loss, right


class _ChunkedCrossEntropy(torch.autograd.Function):
    """Sums of the cross-entropy and of right predictions; computes gradients in the forward pass."""

    @staticmethod
    def forward(
        ctx: Any,
        logits_of: Callable[[Tensor], Tensor],
        labels: Tensor,
        chunk_size: int,
        needs_gradient: bool,
        hidden: Tensor,
        *trainable: Tensor,
    ) -> Any:
        """Sum over chunks of positions."""
        total, right = (torch.zeros((), device=hidden.device) for _ in range(2))
        gradients = [torch.zeros_like(t) for t in (hidden, *trainable)] if needs_gradient else []
        for start in range(0, len(labels), chunk_size):
            positions = slice(start, start + chunk_size)
            with torch.set_grad_enabled(needs_gradient):
                chunk = hidden[positions].detach().requires_grad_(needs_gradient)
                logits = logits_of(chunk)
                loss = F.cross_entropy(logits.float(), labels[positions], reduction="sum")
            total += loss.detach()
            right += (logits.max(-1).indices == labels[positions]).sum()  # on CPUs, argmax takes longer
            if needs_gradient:
                chunk_gradients = torch.autograd.grad(loss, [chunk, *trainable])
                gradients[0][positions] = chunk_gradients[0]
                for gradient, chunk_gradient in zip(gradients[1:], chunk_gradients[1:], strict=True):
                    gradient += chunk_gradient
        ctx.save_for_backward(*gradients)
        ctx.mark_non_differentiable(right)
        return total, right

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, _right: Tensor) -> Any:
        """Scale the stored gradients by the gradient of the loss."""
        return (None, None, None, None, *(gradient.to(g.dtype) * g for g in ctx.saved_tensors))
