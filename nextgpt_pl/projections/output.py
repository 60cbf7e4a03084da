"""Output projections: map the LLM's states at the signal tokens to a caption embedding of the diffusion decoder.

Shapes: S spans, K signal tokens per span, H LLM width, L tokens and D width of the caption embedding. A pooled
embedding (audio) has L = 1 here; the decoder removes that axis.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from nextgpt_pl.projections.transformer import query_former, query_transformer


class OutputProjection(nn.Module, ABC):
    """Maps hidden states and input embeddings of the signal tokens, each ``(S, K, H)``, to ``(S, L, D)``.

    The first four arguments of every constructor (H, K, L, D) come from the LLM, the modality table and the
    decoder's text encoder; the YAML sets the others.
    """

    @abstractmethod
    def forward(self, hidden_states: Tensor, token_embeddings: Tensor) -> Tensor:
        """Project the sum of both inputs, as in the official code."""


class TransformerOutputProjection(OutputProjection):
    """The paper's output projection: a small encoder-decoder transformer with learned queries.

    Pre-norm, ReLU, feed-forward 4 x width, no positions and no masks; the attribute names are those of the
    official checkpoints (``fc``, ``tfm``, ``model``, ``query_embs``), so their weights load as they are.

    Args:
        hidden_size: H.
        num_signal_tokens: K (not needed: attention takes any number).
        length: L, the number of learned queries.
        dim: D.
        width: inner width.
        layers: layers of the encoder, and of the decoder.
        heads: attention heads.
        dropout: dropout probability inside the transformer.

    """

    def __init__(
        self,
        hidden_size: int,
        num_signal_tokens: int,
        length: int,
        dim: int,
        width: int = 512,
        layers: int = 4,
        heads: int = 4,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.fc = nn.Linear(hidden_size, width)
        self.tfm = query_transformer(width, layers, heads, dropout)
        self.model = nn.Linear(width, dim)
        self.query_embs = nn.Parameter(torch.randn(1, length, width))

    def forward(self, hidden_states: Tensor, token_embeddings: Tensor) -> Tensor:
        """``(S, K, H)`` twice to ``(S, L, D)``."""
        x = self.fc(hidden_states + token_embeddings)
        return self.model(self.tfm(x, self.query_embs.expand(len(x), -1, -1)))


class QFormerOutputProjection(OutputProjection):
    """Learned queries attend to the signal tokens in BLIP-2's Q-Former (an option of the official code).

    The newer official code fails unless ``width`` equals D; here the last layer maps from ``width`` to D.

    Args:
        hidden_size: H.
        num_signal_tokens: K (not needed: attention takes any number).
        length: L, the number of learned queries.
        dim: D.
        width: of the Q-Former.
        layers: of the Q-Former; each has cross-attention to the signal tokens.
        heads: attention heads.
        feedforward: width of the inner layers; by default 4 x ``width``.

    """

    def __init__(
        self,
        hidden_size: int,
        num_signal_tokens: int,
        length: int,
        dim: int,
        width: int = 768,
        layers: int = 2,
        heads: int = 12,
        feedforward: int | None = None,
    ) -> None:
        super().__init__()
        self.fc = nn.Linear(hidden_size, width)
        self.query_tokens = nn.Parameter(0.02 * torch.randn(1, length, width))
        self.qformer = query_former(width, layers, heads, width, feedforward or 4 * width)
        self.model = nn.Linear(width, dim)

    def forward(self, hidden_states: Tensor, token_embeddings: Tensor) -> Tensor:
        """``(S, K, H)`` twice to ``(S, L, D)``."""
        x = self.fc(hidden_states + token_embeddings)
        queries = self.query_tokens.expand(len(x), -1, -1)
        return self.model(self.qformer(query_embeds=queries, encoder_hidden_states=x).last_hidden_state)


class LinearOutputProjection(OutputProjection):
    """Baseline: one linear map over tokens (K to L) and one over width (H to D)."""

    def __init__(self, hidden_size: int, num_signal_tokens: int, length: int, dim: int) -> None:
        super().__init__()
        self.over_tokens = nn.Linear(num_signal_tokens, length)
        self.over_width = nn.Linear(hidden_size, dim)

    def forward(self, hidden_states: Tensor, token_embeddings: Tensor) -> Tensor:
        """``(S, K, H)`` twice to ``(S, L, D)``."""
        x = self.over_width(hidden_states + token_embeddings)
        return self.over_tokens(x.transpose(1, 2)).transpose(1, 2)


class MLPOutputProjection(OutputProjection):
    """A residual MLP over the concatenated signal tokens: needs the fewest samples if K and L are small.

    Each token is first reduced to ``2 * width / K`` numbers, so the concatenation has the same width for any K.

    Args:
        hidden_size: H.
        num_signal_tokens: K.
        length: L.
        dim: D.
        width: of the residual stream.
        rank: of the last layer's matrix, which is then the product of two; most of the parameters are in that layer.

    """

    def __init__(
        self,
        hidden_size: int,
        num_signal_tokens: int,
        length: int,
        dim: int,
        width: int = 512,
        rank: int | None = None,
    ) -> None:
        super().__init__()
        per_token = max(8, 2 * width // num_signal_tokens)
        self.fc = nn.Linear(hidden_size, per_token)
        self.mix = nn.Linear(num_signal_tokens * per_token, width)
        self.mlp = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )
        self.out: nn.Module = nn.Linear(width, length * dim)
        if rank is not None:
            self.out = nn.Sequential(nn.Linear(width, rank, bias=False), nn.Linear(rank, length * dim))
        self.shape = (length, dim)

    def forward(self, hidden_states: Tensor, token_embeddings: Tensor) -> Tensor:
        """``(S, K, H)`` twice to ``(S, L, D)``."""
        x = self.mix(self.fc(hidden_states + token_embeddings).flatten(1))
        return self.out(x + self.mlp(x)).unflatten(1, self.shape)
