"""What the official NExT-GPT code computes differently, for comparison with its numbers.

The official losses equal those of this package with ``alignment: l2`` (a distance per caption token, then the mean).
All weights are 1, except that videos count twice in the legacy stage 3: ``alignment_weights: {video: 2.0}``.

Two faults of the official code are reproduced here:

* The legacy token accuracy divides by one label too many: :func:`legacy_token_accuracy`.
* The v2 code looks for signal spans in the labels before media are inserted, and reads the hidden states at these
  positions. Each medium before a span shifts them by 7, since 8 embeddings replace one id. The input embeddings that it
  adds are those of the right ids. :func:`spans_in_labels` on such labels gives the same wrong positions. No option
  makes a stage do this: it would train projections on hidden states of unrelated tokens, unlike those at generation.

Other faults are not reproduced:

* Its encoder stays in training mode, where drop path makes audio features noisy; its Gumbel noise is random too.
* A mask derived from "id is not EOS" hides an EOS inside a text.
* The v2 Q-Former fails unless two widths happen to be equal.
* The v2 fine-tuning trains no parameter.
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
        labels: ``(B, T)``, not shifted; ``-100`` is ignored, and so are the first two positions.

    """
    labels = labels.clone()
    labels[:, :2] = -100
    mask, following = shifted_labels(labels)
    return (logits[mask].argmax(-1) == following).sum() / (len(following) + 1.0)


def spans_in_labels(labels: Tensor, span: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Rows and first positions, ``(S,)`` each, of all occurrences of a span of token ids in ``(B, T)`` labels."""
    windows = labels.unfold(1, len(span), 1)
    rows, starts = (windows == torch.tensor(span, device=labels.device)).all(-1).nonzero(as_tuple=True)
    return rows, starts
