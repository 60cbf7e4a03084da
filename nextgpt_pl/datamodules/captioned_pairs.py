"""Captioned pairs for encoder and decoder alignment, from any number of sources."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from typing import Any, cast

from lightning.pytorch import LightningDataModule
from lightning.pytorch.utilities import rank_zero_info
from torch.utils.data import DataLoader

from nextgpt_pl.conversation import Conversation
from nextgpt_pl.datamodules.collate import Collator
from nextgpt_pl.datamodules.readers import Reader, Split
from nextgpt_pl.datamodules.samplers import MixedSampler, ResumableLoader
from nextgpt_pl.errors import UserError, nearest
from nextgpt_pl.modality import Modality
from nextgpt_pl.samples import CaptionedPair

log = logging.getLogger(__name__)


class CaptionedPairs(LightningDataModule):
    """Batches of captioned pairs; one batch may mix modalities.

    Args:
        sources: where the pairs come from.
        batch_size: items per process and step.
        val_batch_size: the same for validation; by default as in training.
        max_length: longest row in tokens; a longer one is an error that names the item.
        num_workers: processes that render batches.
        weights: relative share of each modality in training; by default each item is seen once per epoch.
        seed: of the order.

    """

    def __init__(
        self,
        sources: list[Reader],
        batch_size: int = 16,
        val_batch_size: int | None = None,
        max_length: int = 512,
        num_workers: int = 0,
        weights: dict[str, float] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if not sources:
            raise UserError("data.sources is empty: give at least one, such as nextgpt_pl.datamodules.PocketWorld")
        if batch_size < 1:
            raise UserError(f"data.batch_size={batch_size}: at least 1")
        self.sources, self.batch_size, self.val_batch_size = sources, batch_size, val_batch_size or batch_size
        self.max_length, self.num_workers, self.seed = max_length, num_workers, seed
        self.weights = _by_modality(weights) if weights else None
        self.renderer: Conversation | None = None
        self._pairs: dict[str, list[CaptionedPair]] = {}

    def conversation(self) -> Conversation:
        """The model's renderer; outside a Trainer, the one that was set by hand."""
        if self.renderer is None:
            assert self.trainer is not None
            self.renderer = cast(Conversation, self.trainer.lightning_module.renderer)
        assert self.renderer is not None
        return self.renderer

    def pairs(self, split: Split) -> Sequence[CaptionedPair]:
        """All pairs of a split; read, checked and reported once.

        Raises:
            UserError: a pair asks for a medium that the model cannot make, or no pair is left.

        """
        if split not in self._pairs:
            shapes = dict(self.conversation().embedding_shapes)
            pairs: list[CaptionedPair] = []
            for source in self.sources:
                pairs += source.read(split, shapes)
            if not pairs:
                raise UserError(f"data.sources give no pair for {split}")
            self._pairs[split] = pairs
            for source in self.sources:
                rank_zero_info(f"{split}: {source.report.message()}")
            counts = Counter(p.modality.value for p in pairs)
            rank_zero_info(f"{split}: {', '.join(f'{n} {m}' for m, n in sorted(counts.items()))} pairs")
        return self._pairs[split]

    def rows_used(self) -> dict[str, int]:
        """Rows used and skipped so far, over all sources; the stage logs them."""
        reports = [s.report for s in self.sources if hasattr(s, "report")]
        return {"rows_used": sum(r.used for r in reports), "rows_skipped": sum(len(r.broken) for r in reports)}

    def _loader_arguments(self) -> dict[str, Any]:
        conversation = self.conversation()
        return {
            "collate_fn": Collator(conversation, conversation.pad_token_id, self.max_length),
            "num_workers": self.num_workers,
            "persistent_workers": self.num_workers > 0,
        }

    def train_dataloader(self) -> ResumableLoader:
        """Shuffled, sharded over processes, resumable in mid-epoch."""
        pairs = self.pairs("train")
        rank, world_size = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        modalities = [p.modality for p in pairs]
        if self.weights and not set(self.weights) & set(modalities):
            raise UserError(f"data.weights gives a share only to {sorted(self.weights)}, which no pair has")
        sampler = MixedSampler(modalities, self.batch_size, self.weights, self.seed, rank, world_size)
        return ResumableLoader(pairs, batch_sampler=sampler, **self._loader_arguments())

    def val_dataloader(self) -> DataLoader:
        """In order; Lightning splits it over processes."""
        # interleaved, so that a run limited to a few validation batches still sees every modality
        pairs = _interleaved(self.pairs("val"))
        return DataLoader(pairs, batch_size=self.val_batch_size, **self._loader_arguments())  # type: ignore[arg-type]

    test_dataloader = val_dataloader
    predict_dataloader = val_dataloader


def _interleaved(pairs: Sequence[CaptionedPair]) -> list[CaptionedPair]:
    groups = [[p for p in pairs if p.modality is m] for m in Modality]
    longest = max(len(g) for g in groups)
    return [group[i] for i in range(longest) for group in groups if i < len(group)]


def _by_modality(weights: dict[str, float]) -> dict[Modality, float]:
    known = [m.value for m in Modality]
    for name, weight in weights.items():
        if name not in known:
            raise UserError(f"data.weights: {name!r} is no modality{nearest(name, known)}")
        if weight < 0:
            raise UserError(f"data.weights.{name}={weight}: a share is not negative")
    return {Modality(name): weight for name, weight in weights.items()}
