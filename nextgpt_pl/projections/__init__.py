"""The trained joints: encoder -> LLM (``input``) and LLM -> diffusion decoder (``output``)."""

from nextgpt_pl.projections.input import InputProjection, LinearInputProjection, MLPInputProjection
from nextgpt_pl.projections.output import (
    LinearOutputProjection,
    MLPOutputProjection,
    OutputProjection,
    TransformerOutputProjection,
)

__all__ = [
    "InputProjection",
    "LinearInputProjection",
    "LinearOutputProjection",
    "MLPInputProjection",
    "MLPOutputProjection",
    "OutputProjection",
    "TransformerOutputProjection",
]
