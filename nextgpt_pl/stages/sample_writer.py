"""Sample media of a validation, from projected signal tokens and from true caption embeddings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from nextgpt_pl.decoders.base import Decoder, constant
from nextgpt_pl.media.writing import save_comparison
from nextgpt_pl.modality import MODALITIES, Modality
from nextgpt_pl.utils.atomic import write_atomic
from nextgpt_pl.utils.escaping import one_line, spreadsheet_cell

SEED = 0  # seed of the initial noise, which both columns share

_Kept = tuple[str, Tensor, Tensor]  # caption, projected signal tokens, true caption embedding

Negatives = tuple[Tensor | None, Tensor | None]


class SampleWriter:
    """Collects the first embeddings of an epoch, and writes their media to files and W&B.

    Args:
        decoders: decoders per modality; those that cannot generate are ignored.
        count: samples per modality.

    """

    def __init__(self, decoders: Mapping[Modality, Decoder], count: int) -> None:
        self.decoders = {m: d for m, d in decoders.items() if d.can_generate}
        self.count = count
        self.kept: dict[Modality, list[_Kept]] = {m: [] for m in self.decoders}

    def collect(self, modality: Modality, captions: Sequence[str], predicted: Tensor, target: Tensor) -> None:
        """Keep embeddings ``(S, L, D)`` until there are ``count`` samples."""
        if modality not in self.kept:
            return
        kept = self.kept[modality]
        for caption, ours, theirs in zip(captions, predicted, target, strict=True):
            if len(kept) < self.count:
                kept.append((caption, ours.detach(), theirs.detach()))

    def clear(self) -> None:
        """Remove all collected embeddings."""
        for kept in self.kept.values():
            kept.clear()

    def write(
        self,
        folder: Path,
        loggers: Sequence[Any],
        step: int,
        negatives: Callable[[Modality], Negatives] = lambda _: (None, None),
    ) -> None:
        """Generate media, save them to ``folder`` and log them to W&B; a decoder's failure is a warning.

        Args:
            folder: output folder.
            loggers: loggers; W&B loggers also receive the media.
            step: number of optimizer steps so far.
            negatives: function of a modality to the negative embeddings of guidance, for media from signal tokens and
                for media from captions; ``None``: the decoder's negative prompt.

        """
        for modality, kept in self.kept.items():
            if not kept:
                continue
            try:
                self._write(folder, modality, kept, loggers, step, negatives(modality))
            except Exception as error:  # a failing decoder must not end the training
                rank_zero_warn(f"no {modality} samples at step {step}: {type(error).__name__}: {error}")

    def _write(
        self,
        folder: Path,
        modality: Modality,
        kept: list[tuple[str, Tensor, Tensor]],
        loggers: Sequence[Any],
        step: int,
        negatives: Negatives,
    ) -> None:
        decoder = self.decoders[modality]
        shape = (-1, *decoder.embedding_shape)
        ours = decoder.generate(torch.stack([k[1] for k in kept]).reshape(shape), seed=SEED, negative=negatives[0])
        theirs = decoder.generate(torch.stack([k[2] for k in kept]).reshape(shape), seed=SEED, negative=negatives[1])
        blank = sum(map(constant, [*ours, *theirs]))
        if blank:
            rank_zero_warn(f"{blank} of {2 * len(kept)} {modality} samples at step {step} are constant")
        folder.mkdir(parents=True, exist_ok=True)
        captions = [k[0] for k in kept]
        files = save_comparison(folder, modality, captions, theirs, ours, decoder.rate)
        write_atomic(
            folder / f"{modality}_captions.txt", "".join(f"{i}: {one_line(c)}\n" for i, c in enumerate(captions))
        )
        _to_wandb(loggers, modality, captions, files, step)


def write_captions(folder: Path, written: Sequence[tuple[str, str, str]], loggers: Sequence[Any], step: int) -> None:
    """Write key, caption and reference of each item to ``captions.tsv`` and to a W&B table."""
    folder.mkdir(parents=True, exist_ok=True)
    cells = ([spreadsheet_cell(one_line(text)) for text in row] for row in written)
    lines = ["key\tcaption\treference", *map("\t".join, cells)]
    write_atomic(folder / "captions.tsv", "\n".join(lines) + "\n")
    for experiment in _wandb_runs(loggers):
        import wandb

        table = wandb.Table(columns=["key", "caption", "reference"], data=[list(row) for row in written])
        experiment.log({"samples/captions": table, "trainer/global_step": step})


def _wandb_runs(loggers: Sequence[Any]) -> list[Any]:
    from lightning.pytorch.loggers import WandbLogger

    return [logger.experiment for logger in loggers if isinstance(logger, WandbLogger)]


def _to_wandb(loggers: Sequence[Any], modality: Modality, captions: list[str], files: list[Path], step: int) -> None:
    for experiment in _wandb_runs(loggers):
        import wandb

        kind = {Modality.IMAGE: wandb.Image, Modality.VIDEO: wandb.Video, Modality.AUDIO: wandb.Audio}[modality]
        suffix = MODALITIES[modality].sample_suffix
        playable = [kind(str(f), caption=f.stem) for f in files[1:] if f.suffix == suffix]
        experiment.log(
            {
                f"samples/{modality}": playable,
                f"samples/{modality}_compared": wandb.Image(str(files[0]), caption=" | ".join(captions)),
                "trainer/global_step": step,
            }
        )
