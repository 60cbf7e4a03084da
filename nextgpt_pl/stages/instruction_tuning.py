"""Stage 3, instruction tuning: dialogues teach when to speak and when to show (paper, section 5)."""

from __future__ import annotations

from pathlib import Path

from nextgpt_pl.llm import LoRA
from nextgpt_pl.losses import AlignmentLoss
from nextgpt_pl.model import NextGPT
from nextgpt_pl.stages.base import Schedule
from nextgpt_pl.stages.decoder_alignment import DecoderAlignment


class InstructionTuning(DecoderAlignment):
    """Trains LoRA, both kinds of projections and the signal tokens' rows; the loss is that of decoder alignment.

    Cross-entropy stands on the assistant's turns, the distance to the caption embedding at every medium that they hold.

    Args:
        network: with encoder, input projections and decoders.
        lora: of the LLM; by default the paper's.
        alignment, text_weight, alignment_weights, samples: see :class:`DecoderAlignment`.
        denoising_weights, min_snr_gamma, condition_dropout: see :class:`DecoderAlignment`.
        lr, weight_decay, betas, warmup_ratio, schedule, init_from, lr_scales: see :class:`Stage`.

    """

    trains = ("input_projections.*", "output_projections.*", "llm.model.*.rows", "llm.model.*lora_*")

    def __init__(
        self,
        network: NextGPT,
        lora: LoRA | None = None,
        alignment: AlignmentLoss = "mse",
        text_weight: float = 1.0,
        alignment_weights: dict[str, float] | None = None,
        samples: int = 4,
        lr: float = 5e-4,
        weight_decay: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.95),
        warmup_ratio: float = 0.1,
        schedule: Schedule = "linear",
        init_from: Path | None = None,
        lr_scales: dict[str, float] | None = None,
        denoising_weights: dict[str, float] | None = None,
        min_snr_gamma: float = 5.0,
        condition_dropout: float = 0.0,
    ) -> None:
        super().__init__(
            network,
            alignment,
            text_weight,
            alignment_weights,
            samples,
            lr,
            weight_decay,
            betas,
            warmup_ratio,
            schedule,
            init_from,
            lr_scales,
            denoising_weights=denoising_weights,
            min_snr_gamma=min_snr_gamma,
            condition_dropout=condition_dropout,
        )
        self.lora = lora or LoRA()

    def extend_network(self) -> None:
        """Add LoRA, unless the adapter that was taken over has brought it."""
        self.network.llm.add_lora(self.lora)
