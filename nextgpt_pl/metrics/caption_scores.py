"""Caption scores as a torchmetrics metric, which gathers texts across ranks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from nextgpt_pl.metrics.captions import bleu, cider_d, rouge_l
from nextgpt_pl.metrics.tokens import tokenize

_UNIT, _RECORD = "\x1f", "\x1e"  # ASCII's separators: between the texts of an item, and between items


class CaptionScores(Metric):
    """CIDEr-D, BLEU-1 to BLEU-4 and ROUGE-L of candidate captions against their references.

    Args:
        kwargs: arguments of :class:`torchmetrics.Metric`.

    >>> metric = CaptionScores()
    >>> metric.update(["a red circle", "a blue star"], [["a red circle"], ["a blue star"]])
    >>> round(metric.compute()["ROUGE-L"].item(), 4)
    1.0

    """

    full_state_update = False
    texts: list[Tensor]

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        # texts are stored as bytes, since torchmetrics gathers tensors only
        self.add_state("texts", [], dist_reduce_fx="cat")

    def update(self, candidates: Sequence[str], references: Sequence[Sequence[str]]) -> None:
        """One candidate and any number of references per item."""
        for candidate, refs in zip(candidates, references, strict=True):
            fields = [t.replace(_UNIT, " ").replace(_RECORD, " ") for t in (candidate, *refs)]
            encoded = (_UNIT.join(fields) + _RECORD).encode()
            self.texts.append(torch.tensor(list(encoded), dtype=torch.uint8, device=self.device))

    def sync(self, *args: Any, **kwargs: Any) -> None:
        """Gather the texts of all ranks; a rank without texts sends an empty tensor of the same dtype."""
        if isinstance(self.texts, list) and not self.texts:
            self.texts.append(torch.empty(0, dtype=torch.uint8, device=self.device))
        super().sync(*args, **kwargs)

    def compute(self) -> dict[str, Tensor]:
        """All scores.

        Raises:
            ValueError: there are fewer than two items, so CIDEr-D has no document frequencies.

        """
        data = torch.cat(list(self.texts)) if isinstance(self.texts, list) and self.texts else self.texts
        text = bytes(data.cpu().tolist()).decode() if isinstance(data, Tensor) else ""
        items = [record.split(_UNIT) for record in text.split(_RECORD)[:-1]]
        candidates = [tokenize(item[0]) for item in items]
        references = [[tokenize(r) for r in item[1:]] for item in items]
        scores = {"CIDEr-D": float(cider_d(candidates, references).mean())}
        scores |= {f"BLEU-{n}": value for n, value in enumerate(bleu(candidates, references), start=1)}
        scores["ROUGE-L"] = float(rouge_l(candidates, references).mean())
        return {name: torch.tensor(value) for name, value in scores.items()}
