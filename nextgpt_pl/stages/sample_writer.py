"""Media drawn at validation: from the projected signal tokens, beside those from the true caption embedding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nextgpt_pl import media
from nextgpt_pl.decoders.base import Decoder
from nextgpt_pl.modality import MODALITIES, Modality

SEED = 0  # of the noise: both columns start from the same


class SampleWriter:
    """Collects the first embeddings of an epoch and turns them into files and W&B media.

    Args:
        decoders: per modality; those that cannot generate are left out.
        count: samples per modality.

    """

    def __init__(self, decoders: Mapping[Modality, Decoder], count: int) -> None:
        self.decoders = {m: d for m, d in decoders.items() if d.can_generate}
        self.count = count
        self.kept: dict[Modality, list[tuple[str, Tensor, Tensor]]] = {m: [] for m in self.decoders}

    def collect(self, modality: Modality, captions: Sequence[str], predicted: Tensor, target: Tensor) -> None:
        """Keep what is still wanted of ``(S, L, D)`` embeddings."""
        if modality not in self.kept:
            return
        kept = self.kept[modality]
        for caption, ours, theirs in zip(captions, predicted, target, strict=True):
            if len(kept) < self.count:
                kept.append((caption, ours.detach(), theirs.detach()))

    def clear(self) -> None:
        """Forget what was collected."""
        for kept in self.kept.values():
            kept.clear()

    def write(self, folder: Path, loggers: Sequence[Any], step: int) -> None:
        """Draw, save to ``folder`` and log to W&B; a decoder that fails is reported, training goes on."""
        for modality, kept in self.kept.items():
            if not kept:
                continue
            decoder = self.decoders[modality]
            shape = (-1, *decoder.embedding_shape)
            ours = decoder.generate(torch.stack([k[1] for k in kept]).reshape(shape), seed=SEED)
            theirs = decoder.generate(torch.stack([k[2] for k in kept]).reshape(shape), seed=SEED)
            folder.mkdir(parents=True, exist_ok=True)
            captions = [k[0] for k in kept]
            files = media.save_comparison(folder, modality, captions, theirs, ours)
            (folder / f"{modality}_captions.txt").write_text("".join(f"{i}: {c}\n" for i, c in enumerate(captions)))
            _to_wandb(loggers, modality, captions, files, step)


def _to_wandb(loggers: Sequence[Any], modality: Modality, captions: list[str], files: list[Path], step: int) -> None:
    from lightning.pytorch.loggers import WandbLogger

    for logger in loggers:
        if isinstance(logger, WandbLogger):
            import wandb

            kind = {Modality.IMAGE: wandb.Image, Modality.VIDEO: wandb.Video, Modality.AUDIO: wandb.Audio}[modality]
            suffix = MODALITIES[modality].sample_suffix
            playable = [kind(str(f), caption=f.stem) for f in files[1:] if f.suffix == suffix]
            logger.experiment.log(
                {
                    f"samples/{modality}": playable,
                    f"samples/{modality}_compared": wandb.Image(str(files[0]), caption=" | ".join(captions)),
                    "trainer/global_step": step,
                }
            )
