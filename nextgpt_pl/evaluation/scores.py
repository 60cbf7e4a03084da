"""Scores of a task, with 95% intervals; computed from predictions and media files, without the model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from nextgpt_pl.evaluation import bootstrap
from nextgpt_pl.evaluation.bootstrap import Estimate
from nextgpt_pl.evaluation.records import Prediction, reference_folder
from nextgpt_pl.evaluation.shared_work import SharedWork
from nextgpt_pl.metrics import captions as caption_metrics
from nextgpt_pl.metrics import mel_cepstral, meteor, spice, vqa
from nextgpt_pl.metrics.tokens import tokenize
from nextgpt_pl.readers.files import inside

CaptionScore = Literal["CIDEr-D", "ROUGE-L", "BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4"]
_Tokens = tuple[list[str], list[list[str]]]  # of a candidate, and of each of its references
_MOST_CAPTIONS = 2_000  # BLEU of more captions has no interval, since resampling takes too long


class Score(ABC):
    """One or several named scores of a task's predictions."""

    @abstractmethod
    def __call__(self, predictions: Sequence[Prediction], folder: Path, data: Path) -> dict[str, Estimate]:
        """Compute the scores, by name.

        Args:
            predictions: predictions of one task.
            folder: folder of the generated media.
            data: folder of the reference media.

        Raises:
            ValueError: there are too few items, or a score is undefined for them; the message says why.
            UserError: a file is missing or unreadable.

        """


class SharedScore(Score):
    """A score whose work is split over all ranks; others are computed on rank 0."""

    def __call__(self, predictions: Sequence[Prediction], folder: Path, data: Path) -> dict[str, Estimate]:
        """Compute the scores in this process alone."""
        return self.compute(predictions, folder, data, SharedWork())

    @abstractmethod
    def compute(
        self, predictions: Sequence[Prediction], folder: Path, data: Path, work: SharedWork
    ) -> dict[str, Estimate]:
        """Compute the scores, by name; called on all ranks, with equal arguments. See :class:`Score` for errors.

        Args:
            predictions: see :class:`Score`.
            folder: see :class:`Score`.
            data: see :class:`Score`.
            work: splits work over the ranks, and has the features of media and captions.

        """


class CaptionQuality(SharedScore):
    """CIDEr-D, BLEU-1 to BLEU-4 and ROUGE-L of the replies' texts.

    Args:
        only: names of the scores to compute; by default all.

    """

    def __init__(self, only: Sequence[CaptionScore] | None = None) -> None:
        self.only = get_args(CaptionScore) if only is None else only

    def compute(
        self, predictions: Sequence[Prediction], folder: Path, data: Path, work: SharedWork
    ) -> dict[str, Estimate]:
        """As COCO's caption evaluation computes them."""
        need_references(predictions)
        items = work.each(_tokens_of, predictions)
        candidates, references = [own for own, _ in items], [refs for _, refs in items]
        per_item = {}
        if "CIDEr-D" in self.only:  # document frequencies are those of all items
            per_item["CIDEr-D"] = caption_metrics.cider_d(candidates, references)
        if "ROUGE-L" in self.only:
            per_item["ROUGE-L"] = np.array(work.split(partial(_of_items, caption_metrics.rouge_l), items))
        scores = dict(zip(per_item, bootstrap.of_means(list(per_item.values())), strict=True))
        corpus = [name for name in self.only if name not in ("CIDEr-D", "ROUGE-L")]
        counts = np.array(work.split(partial(_of_items, caption_metrics.bleu_counts), items) if corpus else [])
        resamples = 100 if len(candidates) <= _MOST_CAPTIONS else 0
        for name in corpus:

            def bleu(chosen: np.ndarray, order: int = int(name[-1])) -> float:
                return caption_metrics.bleu_of(counts[chosen].sum(0))[order - 1]

            scores[name] = bootstrap.of_set(bleu, len(candidates), resamples=resamples)
        return scores


class MeteorQuality(Score):
    """METEOR of the replies' texts, by pycocoevalcap, which needs Java."""

    def __call__(self, predictions: Sequence[Prediction], folder: Path, data: Path) -> dict[str, Estimate]:
        """``METEOR``, without an interval: the corpus score is not a mean over items."""
        return {"METEOR": Estimate(meteor.meteor(*_tokens(predictions))[0], None, None, len(predictions))}


class SpiceQuality(Score):
    """SPICE and SPIDEr of the replies' texts, by pycocoevalcap, which needs Java and the jars of Stanford CoreNLP."""

    def __call__(self, predictions: Sequence[Prediction], folder: Path, data: Path) -> dict[str, Estimate]:
        """``SPICE`` and, with CIDEr-D, ``SPIDEr``."""
        spice_scores, spider_scores = spice.spider(*_tokens(predictions))
        return dict(zip(("SPICE", "SPIDEr"), bootstrap.of_means([spice_scores, spider_scores]), strict=True))


class VqaAccuracy(Score):
    """VQA accuracy: a third for each annotator who gave the answer, at most 1."""

    def __call__(self, predictions: Sequence[Prediction], folder: Path, data: Path) -> dict[str, Estimate]:
        """``accuracy``, after VQAv2's normalisation of answers."""
        need_references(predictions)
        return {"accuracy": bootstrap.of_mean(np.array([vqa.vqa_accuracy(p.text, p.references) for p in predictions]))}


class MelCepstral(SharedScore):
    """Mel-cepstral distance of generated sounds to their references, by mel-cepstral-distance."""

    def compute(
        self, predictions: Sequence[Prediction], folder: Path, data: Path, work: SharedWork
    ) -> dict[str, Estimate]:
        """``MCD`` in decibels; frames are aligned by dynamic time warping."""
        pairs = [
            (inside(folder, own["file"]), inside(reference_folder(r, folder, data), r["file"]))
            for p in predictions
            if (r := p.reference) and (own := first_medium(p, r["type"]))
        ]
        return {"MCD": bootstrap.of_mean(np.array(work.split(_mel_cepstral_distances, pairs)))}


def _mel_cepstral_distances(pairs: Sequence[tuple[Path, Path]]) -> list[float]:
    return mel_cepstral.mel_cepstral_distances([own for own, _ in pairs], [reference for _, reference in pairs])


def first_medium(prediction: Prediction, kind: str) -> dict[str, Any] | None:
    """The first medium of a type in a reply."""
    return next((medium for medium in prediction.media if medium["type"] == kind), None)


def need_references(predictions: Sequence[Prediction]) -> None:
    """Raise a :class:`ValueError` if an item has no reference text."""
    for prediction in predictions:
        if not prediction.references:
            raise ValueError(f"item {prediction.key} has no reference text")


def _tokens(predictions: Sequence[Prediction]) -> tuple[list[list[str]], list[list[list[str]]]]:
    """Tokens of each reply, and of each of its references."""
    need_references(predictions)
    items = [_tokens_of(prediction) for prediction in predictions]
    return [own for own, _ in items], [references for _, references in items]


def _tokens_of(prediction: Prediction) -> _Tokens:
    return tokenize(prediction.text), [tokenize(reference) for reference in prediction.references]


def _of_items(function: Callable[..., np.ndarray], items: Sequence[_Tokens]) -> list[Any]:
    """A function of candidates and references, of some items; a result per item."""
    return list(function([own for own, _ in items], [references for _, references in items]))
