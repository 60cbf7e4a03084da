"""Input projections: map encoder features to token embeddings of the LLM.

Shapes: N media, E tokens per medium from the encoder, C encoder width, P tokens given to the LLM, H LLM width.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from nextgpt_pl.errors import UserError
from nextgpt_pl.projections.transformer import query_former, query_transformer


class InputProjection(nn.Module, ABC):
    """Maps ``(N, E, C)`` encoder features to ``(N, P, H)`` token embeddings.

    The model passes the first two arguments of every constructor, the widths; the YAML sets the others.

    Attributes:
        num_tokens: P, if it does not depend on the number of encoder tokens.
        expand: LLM tokens per encoder token otherwise.

    """

    num_tokens: int | None = None
    expand = 1

    @abstractmethod
    def forward(self, features: Tensor) -> Tensor:
        """Project."""

    def tokens(self, encoder_tokens: int) -> int:
        """P, the number of token positions of one medium in the prompt."""
        return self.num_tokens or self.expand * encoder_tokens


class LinearInputProjection(InputProjection):
    """One linear layer per token (paper, first version)."""

    def __init__(self, encoder_dim: int, hidden_size: int) -> None:
        super().__init__()
        self.linear = nn.Linear(encoder_dim, hidden_size)

    def forward(self, features: Tensor) -> Tensor:
        """``(N, E, C)`` to ``(N, E, H)``."""
        return self.linear(features)


class MLPInputProjection(InputProjection):
    """``depth`` linear layers of ``width`` with GELU in between, per token.

    Args:
        encoder_dim: C.
        hidden_size: H.
        width: of the inner layers.
        depth: number of linear layers.
        expand: LLM tokens per encoder token; above 1 for encoders that pool a medium into one feature.

    """

    def __init__(self, encoder_dim: int, hidden_size: int, width: int = 1024, depth: int = 2, expand: int = 1) -> None:
        super().__init__()
        if depth < 2:
            raise UserError(f"depth={depth}: expected at least 2 layers; for one layer use LinearInputProjection")
        if expand < 1:
            raise UserError(f"expand={expand}: expected at least 1 LLM token per encoder token")
        layers: list[nn.Module] = [nn.Linear(encoder_dim, width)]
        for _ in range(depth - 2):
            layers += [nn.GELU(), nn.Linear(width, width)]
        self.mlp = nn.Sequential(*layers, nn.GELU(), nn.Linear(width, expand * hidden_size))
        self.expand = expand

    def forward(self, features: Tensor) -> Tensor:
        """``(N, E, C)`` to ``(N, E * expand, H)``."""
        return self.mlp(features).unflatten(-1, (self.expand, -1)).flatten(1, 2)


class TransformerInputProjection(InputProjection):
    """Learned queries attend to the features in an encoder-decoder transformer, as in the output projection.

    Args:
        encoder_dim: C.
        hidden_size: H.
        num_tokens: P, the number of learned queries.
        width: inner width.
        layers: layers of the encoder, and of the decoder.
        heads: attention heads.
        dropout: dropout probability inside the transformer.

    """

    def __init__(
        self,
        encoder_dim: int,
        hidden_size: int,
        num_tokens: int = 8,
        width: int = 512,
        layers: int = 2,
        heads: int = 4,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.num_tokens = num_tokens
        self.fc = nn.Linear(encoder_dim, width)
        self.tfm = query_transformer(width, layers, heads, dropout)
        self.out = nn.Linear(width, hidden_size)
        self.query_embs = nn.Parameter(torch.randn(1, num_tokens, width))

    def forward(self, features: Tensor) -> Tensor:
        """``(N, E, C)`` to ``(N, P, H)``."""
        x = self.fc(features)
        return self.out(self.tfm(x, self.query_embs.expand(len(x), -1, -1)))


class QFormerInputProjection(InputProjection):
    """BLIP-2's Q-Former of the transformers library: learned queries with cross-attention to the features.

    Args:
        encoder_dim: C.
        hidden_size: H.
        num_tokens: P, the number of learned queries.
        width: of the Q-Former.
        layers: of the Q-Former; each has cross-attention to the features.
        heads: attention heads.

    """

    def __init__(
        self,
        encoder_dim: int,
        hidden_size: int,
        num_tokens: int = 32,
        width: int = 768,
        layers: int = 2,
        heads: int = 12,
    ) -> None:
        super().__init__()
        self.num_tokens = num_tokens
        self.query_tokens = nn.Parameter(0.02 * torch.randn(1, num_tokens, width))
        self.qformer = query_former(width, layers, heads, encoder_dim, 4 * width)
        self.out = nn.Linear(width, hidden_size)

    def forward(self, features: Tensor) -> Tensor:
        """``(N, E, C)`` to ``(N, P, H)``."""
        queries = self.query_tokens.expand(len(features), -1, -1)
        states = self.qformer(query_embeds=queries, encoder_hidden_states=features).last_hidden_state
        return self.out(states)
