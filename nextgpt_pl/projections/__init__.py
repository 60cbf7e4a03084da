"""Trained projections: encoder to LLM (``input``) and LLM to diffusion decoder (``output``)."""

from nextgpt_pl.projections.grouping import GroupingInputProjection
from nextgpt_pl.projections.input import (
    InputProjection,
    LinearInputProjection,
    MLPInputProjection,
    QFormerInputProjection,
    TransformerInputProjection,
)
from nextgpt_pl.projections.output import (
    LinearOutputProjection,
    MLPOutputProjection,
    OutputProjection,
    QFormerOutputProjection,
    TransformerOutputProjection,
)
from nextgpt_pl.projections.words import WordInputProjection

__all__ = [
    "GroupingInputProjection",
    "InputProjection",
    "LinearInputProjection",
    "LinearOutputProjection",
    "MLPInputProjection",
    "MLPOutputProjection",
    "OutputProjection",
    "QFormerInputProjection",
    "QFormerOutputProjection",
    "TransformerInputProjection",
    "TransformerOutputProjection",
    "WordInputProjection",
]
