"""An input projection to mixtures of the LLM's word embeddings."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nextgpt_pl.errors import UserError
from nextgpt_pl.projections.input import InputProjection


class WordInputProjection(InputProjection):
    """Maps a medium to LLM tokens that are mixtures of the LLM's word embeddings, plus a learned offset.

    A small frozen LLM makes little use of arbitrary vectors, but reads mixtures of its word embeddings. The words of a
    medium and their order can be learned from captions, without a forward pass of the LLM
    (:func:`nextgpt_pl.losses.spelling_loss`).

    Args:
        encoder_dim: C.
        hidden_size: H.
        width: inner width of the MLP that predicts the words.
        expand: LLM tokens per encoder token; at least the number of tokens of a caption.

    """

    words: Tensor
    lengths: Tensor

    def __init__(self, encoder_dim: int, hidden_size: int, width: int = 512, expand: int = 20) -> None:
        super().__init__()
        if expand < 1:
            raise UserError(f"expand={expand}: expected at least 1 LLM token per encoder token")
        self.norm = nn.LayerNorm(encoder_dim)
        self.mlp = nn.Sequential(nn.Linear(encoder_dim, width), nn.GELU(), nn.Linear(width, expand * hidden_size))
        self.offset = nn.Parameter(torch.zeros(expand, hidden_size))
        self.expand, self.scale = expand, 1.0
        self.register_buffer("words", torch.empty(0, hidden_size), persistent=False)
        self.register_buffer("lengths", torch.empty(0), persistent=False)

    def use_words(self, table: Tensor, scale: float = 1.0) -> None:
        """Set the word embeddings to mix; they are frozen and not saved in checkpoints.

        Args:
            table: ``(V, H)``; it is not copied.
            scale: factor that makes a row of the table the word's embedding.

        """
        self.words, self.scale = table.detach(), scale
        self.lengths = self.words.float().norm(dim=-1).clamp(min=1e-12)

    def word_log_probs(self, features: Tensor) -> Tensor:
        """Log-probability of each word for each token, ``(N, E, C)`` to ``(N, E * expand, V)``."""
        queries = self.mlp(self.norm(features)).unflatten(-1, (self.expand, -1)).flatten(1, 2)
        # unit-length keys, since the embeddings of rare words are often short
        return (queries @ self.words.float().T / self.lengths).log_softmax(-1)

    def forward(self, features: Tensor) -> Tensor:
        """``(N, E, C)`` to ``(N, E * expand, H)``.

        Raises:
            RuntimeError: :meth:`use_words` was not called.

        """
        if not len(self.words):
            raise RuntimeError("WordInputProjection has no words: call use_words first")
        mixed = self.word_log_probs(features).exp() @ self.words.float()
        return mixed * self.scale + self.offset.repeat(features.shape[1], 1)
