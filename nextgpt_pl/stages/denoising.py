"""Denoising error of decoder alignment, under frozen diffusion networks conditioned on projected signal tokens."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

import torch
from torch import Tensor

from nextgpt_pl.batches import SpanTargets
from nextgpt_pl.errors import UserError, at_least
from nextgpt_pl.modality import Modality
from nextgpt_pl.model import NextGPT
from nextgpt_pl.utils.transfer import upload

_SEED = 0  # seed of noise and timesteps in validation


class Denoising:
    """Denoising error per modality, with condition dropout that trains the null signals.

    Args:
        network: network of the decoders.
        weights: weight per modality; 0 by default.
        gamma: upper bound of the min-SNR weights.
        dropout: share of media that are denoised under the null signal.

    """

    def __init__(self, network: NextGPT, weights: Mapping[str, float], gamma: float, dropout: float) -> None:
        at_least(0, **{f"model__denoising_weights__{name}": weight for name, weight in weights.items()})
        if not 0 < gamma < math.inf:
            raise UserError(f"model.min_snr_gamma={gamma}: above 0")
        if not 0 <= dropout < 1:
            raise UserError(f"model.condition_dropout={dropout}: expected a share, from 0 to below 1")
        if dropout and not (network.has_null_signals and any(weights.values())):
            raise UserError(
                f"model.condition_dropout={dropout} trains null signals: set network.null_signals: true, and a weight "
                "in model.denoising_weights"
            )
        self.network, self.gamma, self.dropout = network, gamma, dropout
        self.weights = {m: float(weights.get(m.value, 0.0)) for m in network.embedded}

    def start_null_signals(self, inherited: Collection[str]) -> None:
        """Initialise new null signals with the decoders' negative prompts; inherited ones are unchanged."""
        for name, signal in self.network.null_signals.items():
            if f"null_signals.{name}" in inherited or signal.is_meta:
                continue
            with torch.no_grad():
                signal.copy_(self.network.caption_embeddings.unconditional(Modality(name)).view(signal.shape))

    def drops(self, modality: Modality, spans: SpanTargets) -> bool:
        """Whether a training step may denoise one of the spans' media under the null signal."""
        return bool(self.dropout and self.weights[modality] and any(medium is not None for medium in spans.media))

    def __call__(
        self, modality: Modality, predicted: Tensor, spans: SpanTargets, *, train: bool
    ) -> tuple[Tensor, int] | None:
        """Sum of the denoising errors over spans with a true medium, and the number of these spans.

        ``None`` if there is no such span, or the modality has no weight.

        Args:
            modality: modality of the spans.
            predicted: ``(S, L, D)`` projected signal tokens.
            spans: with their media.
            train: use random noise and dropout; otherwise fixed noise and no dropout.

        """
        known = [(i, medium) for i, medium in enumerate(spans.media) if medium is not None]
        if not known or not self.weights[modality]:
            return None
        decoder = self.network.decoders[modality].to(predicted.device)
        embeddings = predicted[upload(torch.tensor([i for i, _ in known]), predicted.device)]
        if train and self.dropout:
            dropped = torch.rand(len(known), 1, 1, device=embeddings.device) < self.dropout
            embeddings = torch.where(dropped, self.network.null_signals[modality.value], embeddings)
        generator = torch.Generator()
        generator.manual_seed(int(torch.randint(2**31, ())) if train else _SEED)
        inputs = [spans.inputs[i] for i, _ in known] if spans.inputs else []
        latents = decoder.latents([medium for _, medium in known], inputs)
        shaped = embeddings.view(-1, *decoder.embedding_shape)
        error = decoder.denoising_loss(shaped, latents, gamma=self.gamma, generator=generator)
        return error * len(known), len(known)
