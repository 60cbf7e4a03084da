"""Cross-entropy straight from hidden states: logits of a few positions at a time, and none kept."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_LOGITS = 2**23  # 32 MiB in float32; with fewer at a time, the head's matrix product takes up to twice as long


def positions_at_once(vocab_size: int) -> int:
    """Number of positions per part of :func:`token_cross_entropy`, for a head of ``vocab_size`` rows."""
    return max(1, _LOGITS // vocab_size)


def token_cross_entropy(head: nn.Module, hidden: Tensor, labels: Tensor, at_once: int) -> tuple[Tensor, Tensor]:
    """Cross-entropy in nats and right predictions, each summed over the positions.

    Gradients are computed with the loss, part by part. So no more than one part's logits are ever held, where the usual
    way holds four times those of all positions: of 4,096 tokens and 32,000 words, 2 GB.

    Args:
        head: ``(N, H)`` to logits ``(N, V)``.
        hidden: ``(N, H)``, at the positions that predict a label only.
        labels: ``(N,)``.
        at_once: positions in a part.

    """
    trainable = [p for p in head.parameters() if p.requires_grad]
    keep = torch.is_grad_enabled() and (hidden.requires_grad or bool(trainable))
    loss, right = _InParts.apply(head, labels, at_once, keep, hidden, *trainable)
    return loss, right


class _InParts(torch.autograd.Function):
    """Sums of the cross-entropy and of right predictions; the former's gradients are made on the way."""

    @staticmethod
    def forward(
        ctx: Any, head: nn.Module, labels: Tensor, at_once: int, keep: bool, hidden: Tensor, *trainable: Tensor
    ) -> Any:
        """Over parts of the positions."""
        total, right = (torch.zeros((), device=hidden.device) for _ in range(2))
        gradients = [torch.zeros_like(t) for t in (hidden, *trainable)] if keep else []
        for start in range(0, len(labels), at_once):
            place = slice(start, start + at_once)
            with torch.set_grad_enabled(keep):
                part = hidden[place].detach().requires_grad_(keep)
                logits = head(part)
                loss = F.cross_entropy(logits.float(), labels[place], reduction="sum")
            total += loss.detach()
            right += (logits.argmax(-1) == labels[place]).sum()
            if keep:
                found = torch.autograd.grad(loss, [part, *trainable])
                gradients[0][place] = found[0]
                for gradient, more in zip(gradients[1:], found[1:], strict=True):
                    gradient += more
        ctx.save_for_backward(*gradients)
        ctx.mark_non_differentiable(right)
        return total, right

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, _right: Tensor) -> Any:
        """What was made on the way, by the loss's own weight."""
        return (None, None, None, None, *(gradient.to(g.dtype) * g for g in ctx.saved_tensors))
