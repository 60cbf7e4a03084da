"""Input projections: encoder features become token embeddings of the LLM.

Shapes: N media, E tokens per medium from the encoder, C encoder width, P tokens given to the LLM, H LLM width.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn


class InputProjection(nn.Module, ABC):
    """Maps ``(N, E, C)`` encoder features to ``(N, P, H)`` token embeddings.

    The first two arguments of every constructor, the widths, come from the parts around it; a YAML gives the rest.
    """

    @abstractmethod
    def forward(self, features: Tensor) -> Tensor:
        """Project."""

    def tokens(self, encoder_tokens: int) -> int:
        """P, how many token positions one medium takes in the prompt."""
        return encoder_tokens


class LinearInputProjection(InputProjection):
    """One linear layer per token (paper, first version)."""

    def __init__(self, encoder_dim: int, hidden_size: int) -> None:
        super().__init__()
        self.linear = nn.Linear(encoder_dim, hidden_size)

    def forward(self, features: Tensor) -> Tensor:
        """``(N, E, C)`` to ``(N, E, H)``."""
        return self.linear(features)


class MLPInputProjection(InputProjection):
    """``depth`` linear layers of ``width`` with GELU in between, per token."""

    def __init__(self, encoder_dim: int, hidden_size: int, width: int = 1024, depth: int = 2) -> None:
        super().__init__()
        if depth < 2:
            raise ValueError(f"depth={depth}: an MLP has at least 2 layers; for one use LinearInputProjection")
        layers: list[nn.Module] = [nn.Linear(encoder_dim, width)]
        for _ in range(depth - 2):
            layers += [nn.GELU(), nn.Linear(width, width)]
        self.mlp = nn.Sequential(*layers, nn.GELU(), nn.Linear(width, hidden_size))

    def forward(self, features: Tensor) -> Tensor:
        """``(N, E, C)`` to ``(N, E, H)``."""
        return self.mlp(features)
