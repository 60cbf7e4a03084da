"""Stage 3, instruction tuning: trains on dialogues with text and media (paper, section 5)."""

from __future__ import annotations

from typing import Any

from nextgpt_pl.llm import LoRA
from nextgpt_pl.model import NextGPT
from nextgpt_pl.stages.decoder_alignment import DecoderAlignment


class InstructionTuning(DecoderAlignment):
    """Trains LoRA, both kinds of projections and the signal tokens' rows; the loss is that of decoder alignment.

    Cross-entropy is computed on the assistant's turns, the alignment loss on all media in them.

    Args:
        network: with encoder and input projections; without decoders, replies are texts.
        lora: LoRA of the LLM; by default the paper's.
        train_llm: whether to use LoRA; without it, as a baseline, only projections and signal tokens' rows are trained.
        alignment, text_weight, alignment_weights, samples: see :class:`DecoderAlignment`.
        denoising_weights, min_snr_gamma, condition_dropout: see :class:`DecoderAlignment`.
        lr, weight_decay, betas, warmup_ratio, schedule, init_from, lr_scales, on_nonfinite, give_up_after: see
            :class:`Stage`.

    """

    learns_replies = True
    shows_media = True
    trains: tuple[str, ...] = ("input_projections.*", "output_projections.*", "llm.model.*.rows", "llm.model.*lora_*")

    def __init__(
        self,
        network: NextGPT,
        lora: LoRA | None = None,
        train_llm: bool = True,
        lr: float = 5e-4,
        **kwargs: Any,
    ) -> None:
        super().__init__(network, lr=lr, train_signal_rows=True, rows_at_a_time=1, **kwargs)
        self.lora = (lora or LoRA()) if train_llm else None
        if not train_llm:
            self.trains = tuple(pattern for pattern in self.trains if "lora" not in pattern)

    def extend_network(self) -> None:
        """Add LoRA, unless the loaded adapter has added it."""
        if self.lora is not None:
            self.network.llm.add_lora(self.lora)
        super().extend_network()
