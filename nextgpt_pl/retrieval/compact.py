"""Compact vectors of caption embeddings: principal components of the flattened embeddings.

Shapes: N captions, F numbers of a flattened embedding, D numbers of a compact vector.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from nextgpt_pl.errors import UserError
from nextgpt_pl.utils.atomic import atomic_file

SAMPLE = 2048  # captions of which the components are computed
_SMALLEST = 1e-6  # share of the largest variance below which a component is noise of float32

#: embeds captions as ``(N, ...)``
Embed = Callable[[Sequence[str]], Tensor]


@dataclass(frozen=True)
class Compact:
    """A projection on principal components.

    Squared distances are divided by ``variance``: 1 is the mean squared distance of a gallery's captions to their mean.

    Attributes:
        mean: mean embedding, ``(F,)`` float32.
        axes: orthonormal components, ``(F, D)`` float32.
        variance: mean squared distance of an embedding to ``mean``, ``(1,)`` float32.

    """

    mean: Tensor
    axes: Tensor
    variance: Tensor

    def __call__(self, embeddings: Tensor) -> np.ndarray:
        """Compact vectors ``(N, D)`` float32 of embeddings ``(N, F)`` float32 on the CPU."""
        return ((embeddings - self.mean) @ self.axes).numpy()

    def distances(self, embedding: Tensor, others: Tensor) -> list[float]:
        """Exact relative squared distances of an embedding ``(F,)`` to others ``(N, F)``."""
        return ((others - embedding).square().sum(1) / self.variance).tolist()

    @classmethod
    def fit(cls, embeddings: Tensor, dimensions: int) -> Compact:
        """Fit to a sample ``(N, F)`` float32; ``D`` is at most ``dimensions``, and the rank of the sample.

        Raises:
            UserError: all embeddings are equal.

        """
        mean = embeddings.mean(0)
        centred = embeddings - mean
        # of the matrix (N, N), since F is tens of thousands for the embeddings of Stable Diffusion
        values, vectors = torch.linalg.eigh((centred @ centred.T).double())
        kept = values.flip(0)[:dimensions]
        kept = kept[kept > _SMALLEST * values[-1].clamp(min=1e-12)]
        if not len(kept):
            raise UserError("a gallery of at least two different captions is expected: all embeddings are equal")
        axes = centred.T @ (vectors.flip(1)[:, : len(kept)] / kept.sqrt()).float()
        return cls(mean, axes.contiguous(), centred.square().sum(1).mean().reshape(1))

    def write(self, path: Path) -> None:
        """Write the tensors."""
        with atomic_file(path) as scratch:
            save_file({"mean": self.mean, "axes": self.axes, "variance": self.variance}, scratch)

    @classmethod
    def read(cls, path: Path) -> Compact:
        """Read the tensors.

        Raises:
            UserError: the file is damaged.

        """
        try:
            compact = cls(**load_file(path))
            fits = compact.axes.shape[0] == len(compact.mean) and bool(compact.variance > 0)
        except (OSError, SafetensorError, TypeError, IndexError) as error:
            raise UserError(f"{path}: cannot be read ({error})") from error
        if not fits or not all(t.isfinite().all() for t in (compact.mean, compact.axes, compact.variance)):
            raise UserError(f"{path}: damaged: its tensors do not fit together, or are not finite")
        return compact


def flat_embeddings(embed: Embed, captions: Sequence[str]) -> Tensor:
    """Embeddings ``(N, F)`` float32 of captions on the CPU.

    Raises:
        UserError: an embedding is not finite.

    """
    embeddings = embed(captions).detach().float().cpu().flatten(1)
    bad = (~embeddings.isfinite()).any(1)
    if bad.any():
        caption = captions[int(bad.nonzero()[0])]
        raise UserError(f"the embedding of the caption {caption!r:.80} has numbers that are not finite")
    return embeddings
