"""What the official NExT-GPT code computes differently, to compare with its logs; nothing here is used by default.

Its losses themselves are ours with ``alignment: l2`` (a distance per caption token, then the mean) and its weights (1
throughout; in the legacy stage 3 videos count twice: ``alignment_weights: {video: 2.0}``). What remains are two faults:

* The legacy token accuracy divides by one label too many: :func:`legacy_token_accuracy`.
* The newer code looks for signal spans in the labels as they are before media are put in, and reads the hidden states
  there, 7 places too early for every medium in front (8 embeddings stand for one id), but adds the embeddings of the
  span's own ids: :func:`spans_in_labels` on those labels gives the same wrong places. No switch makes a stage do so: it
  would train projections on the states of unrelated tokens, which at generation no reply has at its spans.

Other faults are not reproduced. Its encoder in training mode (drop path makes audio features noisy) and its Gumbel
noise have no fixed result. A mask derived from "id is not EOS" would hide an EOS inside a text. Its newer Q-Former
fails unless two widths happen to be equal. Its newer fine-tuning ends with nothing to train.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from nextgpt_pl.losses import shifted_labels


def legacy_token_accuracy(logits: Tensor, labels: Tensor) -> Tensor:
    """Hits / (labels + 1): a perfect model does not reach 1.

    Args:
        logits: ``(B, T, V)``.
        labels: ``(B, T)``, ``-100`` where no loss stands; not shifted. The first two positions never count.

    """
    labels = labels.clone()
    labels[:, :2] = -100
    mask, following = shifted_labels(labels)
    return (logits[mask].argmax(-1) == following).sum() / (len(following) + 1.0)


def spans_in_labels(labels: Tensor, span: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Where a span of token ids stands in ``(B, T)`` labels: rows and first positions, ``(S,)`` each, in order.

    >>> rows, starts = spans_in_labels(torch.tensor([[5, 8, 9], [8, 9, 5]]), [8, 9])
    >>> rows.tolist(), starts.tolist()
    ([0, 1], [1, 0])

    """
    windows = labels.unfold(1, len(span), 1)
    rows, starts = (windows == torch.tensor(span, device=labels.device)).all(-1).nonzero(as_tuple=True)
    return rows, starts
