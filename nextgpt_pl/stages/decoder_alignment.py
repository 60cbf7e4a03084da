"""Stage 2, decoder alignment: signal tokens learn to replace the diffusion text encoder (paper, section 4.2)."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from nextgpt_pl.batches import Batch, SpanTargets
from nextgpt_pl.encoders.media_reader import MediaReader
from nextgpt_pl.errors import UserError, at_least
from nextgpt_pl.losses import AlignmentLoss, caption_alignment
from nextgpt_pl.metrics.alignment import AlignmentQuality
from nextgpt_pl.modality import Modality
from nextgpt_pl.model import NextGPT
from nextgpt_pl.stages.base import Stage
from nextgpt_pl.stages.denoising import Denoising
from nextgpt_pl.stages.sample_writer import Negatives, SampleWriter
from nextgpt_pl.stages.signal_states import RowStates, SignalStates, read_rows
from nextgpt_pl.utils.distributed import any_rank

_SIGNAL_ROWS = "llm.model.*.rows"
_OUTPUT = "output_projections.*"


class DecoderAlignment(Stage):
    """Trains the output projections and the signal tokens' rows; encoder, LLM and decoders are frozen.

    Loss = ``text_weight`` x cross-entropy of the assistant's tokens + sum over modalities of ``alignment_weights`` x
    distance between projected signal tokens and the decoder's caption embedding + ``denoising_weights`` x denoising
    error of the frozen diffusion network, conditioned on the projected tokens (for items with a true medium).

    Args:
        network: needs decoders.
        alignment: ``mse``, or the official code's ``l2``.
        text_weight: weight of the cross-entropy.
        alignment_weights: weight of the distance per modality; 1 by default.
        samples: number of sample media per modality in validation, with those of the true caption embedding; 0: none.
        train_signal_rows: whether to train the signal tokens' rows. If not, they keep their random or ``init_from``
            values, no part of the LLM is trained, and the LLM's outputs are computed once per row and cached.
        rows_at_a_time: number of rows per forward pass of the LLM with frozen signal rows. With one, outputs do not
            depend on the batch and a resumed run is equal bit by bit; with more, the passes are several times as fast.
        denoising_weights: weight of the denoising error per modality; 0 by default.
        min_snr_gamma: upper bound of the min-SNR weights.
        condition_dropout: share of media that are denoised under the null signal, which trains it; for
            ``network.null_signals``.
        lr, weight_decay, betas, warmup_ratio, schedule, init_from, lr_scales, on_nonfinite, give_up_after: see
            :class:`Stage`.

    """

    trains: tuple[str, ...] = (_OUTPUT, _SIGNAL_ROWS)
    #: whether all tokens of replies are trained, which captions between signal tokens need
    learns_replies = False
    shows_media = False

    def __init__(
        self,
        network: NextGPT,
        alignment: AlignmentLoss = "mse",
        text_weight: float = 1.0,
        alignment_weights: dict[str, float] | None = None,
        samples: int = 4,
        denoising_weights: dict[str, float] | None = None,
        min_snr_gamma: float = 5.0,
        condition_dropout: float = 0.0,
        train_signal_rows: bool = True,
        rows_at_a_time: int = 1,
        **kwargs: Any,
    ) -> None:
        super().__init__(network, **kwargs)
        if not train_signal_rows:
            self.trains = tuple(pattern for pattern in self.trains if pattern != _SIGNAL_ROWS)
        if not network.decoders and not self.learns_replies:
            raise UserError("DecoderAlignment needs network.decoders: there is nothing to align to")
        if not network.projected:
            if not self.learns_replies:
                raise UserError(
                    "nothing is projected: network.media_as is captions, or all of network.decoders take words; only"
                    " InstructionTuning trains this"
                )
            self.trains = tuple(pattern for pattern in self.trains if pattern != _OUTPUT)
        for key, weights in (("alignment_weights", alignment_weights), ("denoising_weights", denoising_weights)):
            unknown = set(weights or {}) - {m.value for m in network.embedded}
            if unknown:
                made = ", ".join(network.embedded)
                raise UserError(f"model.{key} names {sorted(unknown)}: decoders that take embeddings make only {made}")
            at_least(0, **{f"model__{key}__{name}": weight for name, weight in (weights or {}).items()})
        at_least(0, model__text_weight=text_weight, model__samples=samples)
        at_least(1, model__rows_at_a_time=rows_at_a_time)
        self.denoising = Denoising(network, denoising_weights or {}, min_snr_gamma, condition_dropout)
        if condition_dropout:
            self.trains = (*self.trains, "null_signals.*")
        self.signal_states = None if train_signal_rows else SignalStates(network, rows_at_a_time)
        # without a cache on disk, the layers are always needed
        self.layers_on_demand = self.signal_states is not None and network.cache is not None
        self.alignment, self.text_weight = alignment, text_weight
        self.weights = {m: (alignment_weights or {}).get(m.value, 1.0) for m in network.embedded}
        # a plain dictionary, so that metrics are not submodules and not in checkpoints
        self.quality: dict[Modality, AlignmentQuality] = {}
        self.writer = SampleWriter(network.projected, samples)

    def configure_model(self) -> None:
        """Also create the metrics, whose shapes are those of the decoders' text encoders."""
        super().configure_model()
        self.quality = {m: AlignmentQuality(d.projection_shape) for m, d in self.network.projected.items()}

    def extend_network(self) -> None:
        """Initialise new null signals."""
        self.denoising.start_null_signals(self.inherited["keys"])

    @property
    def reader(self) -> MediaReader:
        """A reader of input media, if replies are trained, and of the true media of the denoising loss."""
        weights = self.denoising.weights
        compared = {m: self.network.decoders[m].preparation() for m, weight in weights.items() if weight}
        encoder = self.network.encoder if self.shows_media else None
        return MediaReader(encoder, compared, self.network.encoder_stores)

    def on_fit_start(self) -> None:
        """Also move the decoders to the stage's device."""
        super().on_fit_start()
        self.on_validation_start()

    def on_validation_start(self) -> None:
        """Move the decoders to the stage's device, also with cached targets: they generate samples and denoise."""
        for decoder in self.network.decoders.values():
            decoder.to(self.device)

    def on_test_start(self) -> None:
        """Lightning's hook."""
        self.on_validation_start()

    def kept_names(self) -> list[str]:
        """Also the frozen signal tokens' rows: they are random, and the projections fit these values only."""
        rows = fnmatch.filter(dict(self.network.named_parameters()), _SIGNAL_ROWS)
        return list(dict.fromkeys([*super().kept_names(), *rows]))

    def caption_embeddings(self, modality: Modality, spans: SpanTargets) -> Tensor:
        """Targets ``(S, L, D)``, from the item's file or from the decoder's text encoder."""
        missing = [i for i, embedding in enumerate(spans.embeddings) if embedding is None]
        embeddings: list[Tensor | None] = list(spans.embeddings)
        if missing:
            with self.network.stopwatch("encoding", self.device):
                computed = self.network.caption_embeddings(modality, [spans.captions[i] for i in missing])
            for index, embedding in zip(missing, computed, strict=True):
                embeddings[index] = embedding
        stacked = torch.stack([e for e in embeddings if e is not None]).float()
        return stacked.view(len(stacked), *self.network.decoders[modality].projection_shape)

    def fill_cache(self, batch: Batch, device: torch.device) -> None:
        """Also compute the caption embeddings, and the LLM's outputs if they are cached."""
        super().fill_cache(batch, device)
        for modality, spans in batch.spans.items():
            missing = [c for c, embedding in zip(spans.captions, spans.embeddings, strict=True) if embedding is None]
            if missing:
                self.network.decoders[modality].to(device)
                self.network.caption_embeddings(modality, missing)
        if self.signal_states is not None and self.signal_states.usable(batch):
            if not self.network.loaded:  # as in training, with the same signal rows
                self._build()
                self.network.llm.to(device)
            self.signal_states(batch)

    @property
    def measured(self) -> tuple[str, ...]:
        """See :class:`Stage`."""
        distances = [f"{self.alignment}_{m}" for m in self.network.projected]
        errors = [f"denoising_{m}" for m in self.network.projected if self.denoising.weights[m]]
        return ("loss_text", "signal_accuracy", *distances, *errors)

    def used_parts(self, batch: Batch) -> set[str]:
        """See :class:`Steps`; null signals are used where media are denoised with condition dropout."""
        dropped = {f"null_signals.{m}" for m, spans in batch.spans.items() if self.denoising.drops(m, spans)}
        return super().used_parts(batch) | dropped

    def model_step(self, batch: Batch, split: str) -> Tensor:
        """Cross-entropy and alignment of one batch."""
        states = self._read(batch)
        tokens = batch.label_count()
        sums = {"loss_text": (states.text_loss, tokens), "signal_accuracy": (states.right, tokens)}
        # a fixed order on all ranks and in all batches, since denoising draws random numbers
        for modality in (m for m in self.network.projected if m in batch.spans):
            sums |= self._measure(modality, batch.spans[modality], states.at_signals[modality], split)
        means = self.means(sums)
        weights = {"loss_text": self.text_weight}
        weights |= {f"{self.alignment}_{m}": weight for m, weight in self.weights.items()}
        weights |= {f"denoising_{m}": weight for m, weight in self.denoising.weights.items() if weight}
        weighted = [(weight, means[name]) for name, weight in weights.items() if name in means]
        total = torch.stack([weight * mean.part for weight, mean in weighted]).sum()
        value = torch.stack([weight * mean.value for weight, mean in weighted]).sum()
        logged = {name: (mean.value, mean.count) for name, mean in means.items()}
        self.log_split({"loss": (value, means["loss_text"].count), **logged}, split)
        return total

    def _measure(
        self, modality: Modality, spans: SpanTargets, states: Tensor, split: str
    ) -> dict[str, tuple[Tensor, int]]:
        """Loss sums over the spans of a modality, with their counts; ``states`` are those of the signal tokens."""
        target = self.caption_embeddings(modality, spans)
        predicted = self.network.project_signals(modality, *states.unbind(1))
        distance = caption_alignment(predicted, target, self.alignment, 1.0)
        sums = {f"{self.alignment}_{modality}": (distance, len(predicted))}
        error = self.denoising(modality, predicted, spans, train=split == "train")
        if error is not None:
            sums[f"denoising_{modality}"] = error
        if split != "train":
            self.quality[modality].to(self.device).update(predicted, target)
            self.writer.collect(modality, spans.captions, predicted, target)
        return sums

    def _read(self, batch: Batch) -> RowStates:
        """The LLM's outputs for the batch; cached if no part of the LLM is trained."""
        if self.signal_states is not None and self.signal_states.usable(batch):
            return self.signal_states(batch)
        return read_rows(self.network, batch)

    def predict_step(self, batch: Batch, _batch_idx: int) -> dict[str, Any]:
        """Projected caption embeddings per modality, with the captions and keys of their items."""
        embeddings = self.network.embed(batch)
        hidden = self.network.hidden_states(batch, embeddings)
        return {
            modality.value: {
                "keys": [batch.keys[row] for row in batch.on_host().spans[modality].rows.tolist()],
                "captions": spans.captions,
                "embeddings": self.network.project(modality, hidden, embeddings, spans).cpu(),
            }
            for modality, spans in batch.spans.items()
        }

    def finish(self, split: str) -> None:
        """Log the quality over the data set, and write sample media."""
        for modality, metric in self.quality.items():
            # collective: ranks without media of this modality take part
            if not any_rank(metric.update_called, self.device):
                continue
            metric.to(self.device)
            try:
                values = {f"{split}/{name}_{modality}": value for name, value in metric.compute().items()}
                self.log_dict(values, prog_bar=False)
            except ValueError as error:  # too few items; this must not end the training
                rank_zero_warn(f"no {split} error of {modality}: {error}")
            metric.reset()
        # collective: gathers sharded null signals
        null_signals = {m: self.network.null_signal(m) for m in self.network.projected}
        if self.trainer.is_global_zero and not self.trainer.sanity_checking:
            folder = Path(self.trainer.default_root_dir) / "samples" / f"{split}_step_{self.global_step:06d}"
            self.writer.write(folder, self.loggers, self.global_step, partial(self._negatives, null_signals))
        self.writer.clear()

    def _negatives(self, null_signals: Mapping[Modality, Tensor | None], modality: Modality) -> Negatives:
        prompt, signal = self.network.caption_embeddings.negative_prompt(modality), null_signals[modality]
        return (prompt if signal is None else signal), prompt
