"""Stage 1, encoder alignment: the LLM learns to caption what the frozen encoder shows it (paper, section 4.1)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from nextgpt_pl.batches import Batch
from nextgpt_pl.dialogue.conversation import Direction
from nextgpt_pl.errors import UserError, at_least
from nextgpt_pl.generation.decoding import Decoding
from nextgpt_pl.generation.generate import generate
from nextgpt_pl.generation.prepared import prompt_of
from nextgpt_pl.metrics.caption_scores import CaptionScores
from nextgpt_pl.model import NextGPT
from nextgpt_pl.stages.base import Stage
from nextgpt_pl.stages.sample_writer import write_captions
from nextgpt_pl.stages.spelling import check_words, spelling
from nextgpt_pl.utils.distributed import any_rank


class EncoderAlignment(Stage):
    """Trains the input projections by captioning; encoder, LLM and decoders are frozen.

    Args:
        network: needs an encoder and input projections.
        captions: number of items per rank that are captioned in each validation, for CIDEr-D and ``samples/``; 0: none.
        max_new_tokens: maximum number of tokens of a caption.
        word_steps: number of first steps that train on the spelling loss only, without the LLM; for
            :class:`WordInputProjection`.
        word_weight: weight of the spelling loss after these steps.
        lr, weight_decay, betas, warmup_ratio, schedule, init_from, lr_scales, on_nonfinite, give_up_after: see
            :class:`Stage`.

    """

    trains = ("input_projections.*",)
    direction: Direction = "comprehension"

    def __init__(
        self,
        network: NextGPT,
        captions: int = 96,
        max_new_tokens: int = 48,
        word_steps: int = 0,
        word_weight: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(network, **kwargs)
        if network.encoder is None or network.input_projection_factory is None:
            raise UserError("EncoderAlignment needs network.encoder and network.input_projection")
        self.captions, self.decoding = captions, Decoding(max_new_tokens=max_new_tokens, modalities=[])
        at_least(0, model__captions=captions, model__word_steps=word_steps, model__word_weight=word_weight)
        self.word_steps, self.word_weight = word_steps, word_weight
        self.scores = CaptionScores()
        self.written: list[tuple[str, str, str]] = []

    @property
    def measured(self) -> tuple[str, ...]:
        """See :class:`Stage`."""
        spelled = ("spelling", "words_cut") if self.word_steps or self.word_weight else ()
        return ("loss", "token_accuracy", *spelled)

    def extend_network(self) -> None:
        """See :class:`Stage`; the spelling loss needs projections to words."""
        super().extend_network()
        if self.word_steps or self.word_weight:
            check_words(self.network)

    def model_step(self, batch: Batch, split: str) -> Tensor:
        """Cross-entropy of the captions of one batch; in the first ``word_steps`` steps the spelling loss only."""
        words_only = split == "train" and self.global_step < self.word_steps
        sums: dict[str, tuple[Tensor, int]] = {}
        if words_only or self.word_weight or (self.word_steps and split != "train"):
            misspelled, cut, words = spelling(self.network, batch)
            sums |= {"spelling": (misspelled, words), "words_cut": (misspelled.new_full((), cut), words)}
        if not words_only:
            hidden = self.network.hidden_states(batch, self.network.embed(batch))
            places, labels = batch.predictions()
            loss, right = self.network.llm.cross_entropy(hidden.flatten(0, 1)[places], labels)
            sums |= {"loss": (loss, len(labels)), "token_accuracy": (right, len(labels))}
        means = self.means(sums)
        self.log_split({name: (means[name].value, means[name].count) for name in sums}, split)
        if words_only:
            return means["spelling"].part
        loss = means["loss"].part
        return loss + self.word_weight * means["spelling"].part if "spelling" in sums else loss

    def evaluate(self, batch: Batch, split: str) -> None:
        """Also caption the first items."""
        super().evaluate(batch, split)
        remaining = max(0, self.captions - len(self.written))
        # with sharded weights generation has collectives: a rank with enough captions must take part too
        if self.trainer.sanity_checking or not any_rank(remaining > 0, self.device):
            return
        tokenizer = self.network.llm.tokenizer
        rows = list(batch.rows())[: max(1, remaining)]
        replies = generate(self.network, [prompt_of(row) for row in rows], self.decoding)
        for row, reply in zip(rows[:remaining], replies[:remaining], strict=True):
            reference = tokenizer.decode([i for i in row.labels if i >= 0], skip_special_tokens=True).strip()
            caption = tokenizer.decode(reply.ids, skip_special_tokens=True).strip()
            self.written.append((row.key, caption, reference))
            self.scores.update([caption], [[reference]])

    def predict_step(self, batch: Batch, _batch_idx: int) -> list[tuple[str, str]]:
        """Key and caption of each item."""
        prompts = [prompt_of(row) for row in batch.rows()]
        replies = generate(self.network, prompts, self.decoding)
        decode = self.network.llm.tokenizer.decode
        return [
            (key, decode(reply.ids, skip_special_tokens=True).strip())
            for key, reply in zip(batch.keys, replies, strict=True)
        ]

    def finish(self, split: str) -> None:
        """Log caption scores, and write the captions."""
        if any_rank(len(self.written) > 1, self.device):
            scores = self.scores.to(self.device).compute()
            self.log_dict({f"{split}/{name}": value for name, value in scores.items()}, prog_bar=False)
            if self.trainer.is_global_zero:
                folder = Path(self.trainer.default_root_dir) / "samples" / f"{split}_step_{self.global_step:06d}"
                write_captions(folder, self.written, self.loggers, self.global_step)
        self.scores.reset()
        self.written.clear()
