"""Transformers with learned queries, shared by input and output projections."""

from __future__ import annotations

import warnings

from torch import nn


def query_transformer(width: int, layers: int, heads: int, dropout: float) -> nn.Transformer:
    """Pre-norm, ReLU, feed-forward 4 x width, no positions and no masks, as in the official code.

    Raises:
        ValueError: ``width`` is not divisible by ``heads``.

    """
    if width % heads:
        raise ValueError(f"width={width} is not divisible by heads={heads}")
    with warnings.catch_warnings():
        # torch warns that pre-norm layers cannot use nested tensors; no input is padded here
        warnings.filterwarnings("ignore", "enable_nested_tensor is True")
        return nn.Transformer(
            d_model=width,
            nhead=heads,
            num_encoder_layers=layers,
            num_decoder_layers=layers,
            dim_feedforward=4 * width,
            dropout=dropout,
            batch_first=True,
            norm_first=True,
        )


def query_former(width: int, layers: int, heads: int, source_dim: int, feedforward: int) -> nn.Module:
    """BLIP-2's Q-Former; every layer has cross-attention to the source ``(N, E, source_dim)``.

    Raises:
        ValueError: ``width`` is not divisible by ``heads``.

    """
    from transformers import Blip2QFormerConfig, Blip2QFormerModel

    if width % heads:
        raise ValueError(f"width={width} is not divisible by heads={heads}")
    config = Blip2QFormerConfig(
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=feedforward,
        encoder_hidden_size=source_dim,
        cross_attention_frequency=1,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    return Blip2QFormerModel(config)
