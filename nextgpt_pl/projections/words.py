"""An input projection that speaks to the LLM in its own words."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nextgpt_pl.errors import UserError
from nextgpt_pl.projections.input import InputProjection


class WordInputProjection(InputProjection):
    """Each LLM token that a medium becomes is a mixture of the LLM's own word embeddings, plus a learned offset.

    A frozen LLM understands what it knows. A small one hardly takes in free vectors at all; mixtures of its words it
    reads at once, and which words belong to a medium, in which order, can be learned from captions without running the
    LLM (:func:`nextgpt_pl.losses.spelling_loss`).

    Args:
        encoder_dim: C.
        hidden_size: H.
        width: of the MLP that chooses the words.
        expand: LLM tokens that each encoder token becomes; as many as a caption has, or more.

    """

    words: Tensor
    lengths: Tensor

    def __init__(self, encoder_dim: int, hidden_size: int, width: int = 512, expand: int = 20) -> None:
        super().__init__()
        if expand < 1:
            raise UserError(f"expand={expand}: an encoder token becomes at least 1 LLM token")
        self.norm = nn.LayerNorm(encoder_dim)
        self.mlp = nn.Sequential(nn.Linear(encoder_dim, width), nn.GELU(), nn.Linear(width, expand * hidden_size))
        self.offset = nn.Parameter(torch.zeros(expand, hidden_size))
        self.expand = expand
        self.register_buffer("words", torch.empty(0, hidden_size), persistent=False)
        self.register_buffer("lengths", torch.empty(0), persistent=False)

    def use_words(self, table: Tensor) -> None:
        """Mix these word embeddings ``(V, H)``; they are frozen, and in no checkpoint."""
        self.words = table.detach()
        self.lengths = self.words.float().norm(dim=-1).clamp(min=1e-12)

    def word_log_probs(self, features: Tensor) -> Tensor:
        """Log-share of each word in each token, ``(N, E, C)`` to ``(N, E * expand, V)``."""
        queries = self.mlp(self.norm(features)).unflatten(-1, (self.expand, -1)).flatten(1, 2)
        # keys of unit length: rare words, whose embeddings are often short, can be chosen as well
        return (queries @ self.words.float().T / self.lengths).log_softmax(-1)

    def forward(self, features: Tensor) -> Tensor:
        """``(N, E, C)`` to ``(N, E * expand, H)``.

        Raises:
            RuntimeError: :meth:`use_words` was not called.

        """
        if not len(self.words):
            raise RuntimeError("WordInputProjection has no words yet: call use_words")
        mixed = self.word_log_probs(features).exp() @ self.words.float()
        return mixed + self.offset.repeat(features.shape[1], 1)

    def tokens(self, encoder_tokens: int) -> int:
        """``E * expand``."""
        return encoder_tokens * self.expand
