"""Floating-point operations of training batches, from costs that are measured once per run on the meta device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from nextgpt_pl.batches import Batch
from nextgpt_pl.decoders import DiffusionDecoder
from nextgpt_pl.modality import Modality
from nextgpt_pl.sizing import costs
from nextgpt_pl.stages import DecoderAlignment
from nextgpt_pl.stages.base import Stage

_TOKENS = 64  # of the rows that are measured


@dataclass(frozen=True)
class Operations:
    """Operations of a training step: forward and backward passes, without padding and without recomputation.

    Attributes:
        token: of a token in the LLM's layers, without attention.
        pair: of a pair of tokens in the attention of all layers; a row of T tokens has T * T pairs.
        label: of a position with a label: the head.
        shown: per modality, of an input medium: its projection, and the encoder unless features are cached.
        made: per modality, of a medium of the assistant: its projection, and the denoiser if its loss has a weight.

    """

    token: float
    pair: float
    label: float
    shown: Mapping[Modality, float] = field(default_factory=dict)
    made: Mapping[Modality, float] = field(default_factory=dict)

    def of(self, batch: Batch) -> float:
        """Operations of a training step on the batch."""
        lengths = batch.lengths()
        total = self.token * sum(lengths) + self.pair * sum(length**2 for length in lengths)
        total += self.label * batch.label_count()
        total += sum(self.shown.get(m, 0.0) * len(slots) for m, slots in batch.slots.items())
        return total + sum(self.made.get(m, 0.0) * len(spans.captions) for m, spans in batch.spans.items())


def count_operations(stage: Stage) -> Operations:
    """Measure a stage's parts.

    Args:
        stage: not loaded; it is built on the meta device.

    """
    stage.init_from = None  # sizes are the same
    stage.network.llm.gradient_checkpointing = False  # recomputation is no progress
    with torch.device("meta"):
        stage.configure_model()
    network = stage.network
    token, pair, label = _of_llm(stage)
    shown: dict[Modality, float] = {}
    if stage.shows_media and network.encoder is not None:
        shown = {m: float(c.flops) for m, c in costs.input_projection_costs(network, 1).items()}
        if network.cache is None and network.encoder.loaded:
            for modality, cost in costs.encoder_costs(network).items():
                shown[modality] += cost.flops
    made: dict[Modality, float] = {}
    if isinstance(stage, DecoderAlignment):
        for name in network.output_projections:
            made[Modality(name)] = float(costs.output_projection_cost(network, Modality(name), 1).flops)
        for modality, weight in stage.denoising.weights.items():
            decoder = network.decoders[modality]
            if weight and isinstance(decoder, DiffusionDecoder):
                made[modality] = made.get(modality, 0.0) + costs.denoising_cost(decoder, modality).flops
    return Operations(token, pair, label, shown, made)


def _of_llm(stage: Stage) -> tuple[float, float, float]:
    """Operations per token, per pair of tokens and per label, from rows of three sizes; all are linear in these."""
    network = stage.network

    def measured(tokens: int, labels: int) -> int:
        return costs.llm_cost(network, 1, tokens, labels).flops

    short, long = measured(_TOKENS, 1), measured(2 * _TOKENS, 1)
    label = measured(_TOKENS, 2) - short
    layers, of_twice = short - label, long - label
    pair = (of_twice - 2 * layers) / (2 * _TOKENS**2)
    return layers / _TOKENS - pair * _TOKENS, pair, float(label)
