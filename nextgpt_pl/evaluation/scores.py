"""Scores of a task: numbers with 95% intervals, from predictions and files alone. The model is not needed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nextgpt_pl.datamodules.rows import inside
from nextgpt_pl.errors import UserError
from nextgpt_pl.evaluation import bootstrap
from nextgpt_pl.evaluation.bootstrap import Estimate
from nextgpt_pl.evaluation.records import Prediction, as_media
from nextgpt_pl.metrics import captions as caption_metrics
from nextgpt_pl.metrics.distributions import (
    check_moments,
    frechet_distance,
    inception_score,
    kernel_distance,
    kernel_error,
    similarity,
)
from nextgpt_pl.metrics.extractors import Extractor
from nextgpt_pl.metrics.tokens import tokenize

_MANY = 2_000  # captions; above, BLEU takes too long to be resampled
_WIDE = 512  # features; above, a Frechet distance takes too long to be resampled


class Score(ABC):
    """One or several numbers of a task."""

    @abstractmethod
    def __call__(self, predictions: Sequence[Prediction], folder: Path, data: Path) -> dict[str, Estimate]:
        """Compute.

        Args:
            predictions: of one task.
            folder: of the replies' media.
            data: folder of the reference media.

        Raises:
            ValueError: too few items, or degenerate ones; says which.
            UserError: a file is missing or unreadable.

        """


class CaptionQuality(Score):
    """CIDEr-D, BLEU-1 to BLEU-4 and ROUGE-L of the replies' texts.

    Args:
        only: names of those to report; all without it.

    """

    def __init__(self, only: Sequence[str] | None = None) -> None:
        self.only = only

    def __call__(self, predictions: Sequence[Prediction], folder: Path, data: Path) -> dict[str, Estimate]:
        """As COCO's caption evaluation computes them."""
        candidates, references = _tokens(predictions)
        found = {
            "CIDEr-D": bootstrap.of_mean(caption_metrics.cider_d(candidates, references)),
            "ROUGE-L": bootstrap.of_mean(caption_metrics.rouge_l(candidates, references)),
        }
        for n in range(4):

            def bleu(chosen: np.ndarray, order: int = n) -> float:
                picked = [candidates[i] for i in chosen], [references[i] for i in chosen]
                return caption_metrics.bleu(*picked)[order]

            resamples = 100 if len(candidates) <= _MANY else 0
            found[f"BLEU-{n + 1}"] = bootstrap.of_set(bleu, len(candidates), resamples=resamples)
        return {name: value for name, value in found.items() if self.only is None or name in self.only}


class MeteorQuality(Score):
    """METEOR of the replies' texts, by pycocoevalcap, which needs Java."""

    def __call__(self, predictions: Sequence[Prediction], folder: Path, data: Path) -> dict[str, Estimate]:
        """``METEOR``; the corpus score is not the mean of the items', so no interval is given."""
        from nextgpt_pl.metrics.meteor import meteor

        candidates, references = _tokens(predictions)
        return {"METEOR": Estimate(meteor(candidates, references)[0], None, None, len(candidates))}


class SpiceQuality(Score):
    """SPICE and SPIDEr of the replies' texts, by pycocoevalcap, which needs Java and the jars of Stanford CoreNLP."""

    def __call__(self, predictions: Sequence[Prediction], folder: Path, data: Path) -> dict[str, Estimate]:
        """``SPICE`` and, with CIDEr-D, ``SPIDEr``."""
        from nextgpt_pl.metrics.spice import spider

        scenes, both = spider(*_tokens(predictions))
        return {"SPICE": bootstrap.of_mean(scenes), "SPIDEr": bootstrap.of_mean(both)}


class VqaAccuracy(Score):
    """VQA accuracy: an answer that three annotators gave counts as right, one that fewer gave as a third each."""

    def __call__(self, predictions: Sequence[Prediction], folder: Path, data: Path) -> dict[str, Estimate]:
        """``accuracy``, after VQAv2's normalisation of answers."""
        from nextgpt_pl.metrics.vqa import vqa_accuracy

        _need_references(predictions)
        return {"accuracy": bootstrap.of_mean(np.array([vqa_accuracy(p.text, p.references) for p in predictions]))}


class _OfFeatures(Score):
    """Scores on an extractor's features.

    Args:
        extractor: makes them.
        name: of the number.

    """

    def __init__(self, extractor: Extractor, name: str) -> None:
        self.extractor, self.name = extractor, name

    def _features(self, predictions: Sequence[Prediction], folder: Path) -> tuple[Tensor, list[Prediction]]:
        """Features of each reply's first medium of the references' type, and the predictions that have one."""
        kinds = [p.reference["type"] for p in predictions if p.reference] + [
            m["type"] for p in predictions for m in p.media
        ]
        made = [(p, _first(p, kinds[0])) for p in predictions if kinds]
        shown = [(p, medium) for p, medium in made if medium is not None]
        if len(shown) < 2:
            raise ValueError(f"{self.name}: {len(shown)} of {len(predictions)} replies hold a medium; 2 are needed")
        features = self.extractor.media([as_media(folder, medium) for _, medium in shown]).double()
        return features, [p for p, _ in shown]

    def _references(self, predictions: Sequence[Prediction], data: Path) -> Tensor:
        known = [p.reference for p in predictions if p.reference is not None]
        if len(known) < 2:
            raise ValueError(f"{self.name}: {len(known)} of {len(predictions)} items have a reference medium")
        return self.extractor.media([as_media(data, reference) for reference in known]).double()


class Frechet(_OfFeatures):
    """Frechet distance between the generated and the reference media: FID, FVD, FAD or FD, by the extractor."""

    def __call__(self, predictions: Sequence[Prediction], folder: Path, data: Path) -> dict[str, Estimate]:
        """From unbiased covariances."""
        ours, theirs = self._features(predictions, folder)[0], self._references(predictions, data)
        for features, which in ((ours, "generated"), (theirs, "reference")):
            check_moments(len(features), torch.cov(features.T), features.square().sum(1).mean(), which)
        fixed = theirs.mean(0), torch.cov(theirs.T)

        def distance(chosen: np.ndarray) -> float:
            drawn = ours[torch.from_numpy(chosen)]
            return float(frechet_distance(drawn.mean(0), torch.cov(drawn.T), *fixed))

        resamples = 100 if ours.shape[1] <= _WIDE else 0
        return {self.name: bootstrap.of_set(distance, len(ours), resamples=resamples)}


class Kernel(_OfFeatures):
    """Kernel distance (KID): mean over subsets, with a jackknife interval over all items of both sets.

    The interval does not depend on the subset size. With fewer than 3 items in either set there is none.

    Args:
        extractor: see the base.
        name: of the number.
        subsets: drawn.
        subset_size: at most.

    """

    def __init__(self, extractor: Extractor, name: str = "KID", subsets: int = 100, subset_size: int = 1000) -> None:
        super().__init__(extractor, name)
        self.subsets, self.subset_size = subsets, subset_size

    def __call__(self, predictions: Sequence[Prediction], folder: Path, data: Path) -> dict[str, Estimate]:
        """Mean over the subsets, plus and minus 1.96 standard errors."""
        ours, theirs = self._features(predictions, folder)[0], self._references(predictions, data)
        mean = float(kernel_distance(ours, theirs, self.subsets, self.subset_size)[0])
        enough = min(len(ours), len(theirs)) >= 3
        return {self.name: bootstrap.of_error(mean, float(kernel_error(ours, theirs)) if enough else None, len(ours))}


class Inception(_OfFeatures):
    """Inception score; the extractor gives logits.

    Args:
        extractor: see the base.
        name: of the number.
        splits: that mean and deviation are taken over.

    """

    def __init__(self, extractor: Extractor, name: str = "IS", splits: int = 10) -> None:
        super().__init__(extractor, name)
        self.splits = splits

    def __call__(self, predictions: Sequence[Prediction], folder: Path, data: Path) -> dict[str, Estimate]:
        """Mean over the splits, plus and minus 1.96 standard deviations; a single split has no interval."""
        ours = self._features(predictions, folder)[0]
        mean, std = (float(v) for v in inception_score(ours, self.splits))
        return {self.name: bootstrap.of_error(mean, std if self.splits > 1 else None, len(ours))}


class Similarity(_OfFeatures):
    """100 x cosine of a generated medium and what it should show.

    CLIPScore, CLIPSIM (videos), CLIP-T and CLAPScore against the caption; CLIP-I against the reference medium.

    Args:
        extractor: see the base.
        name: of the number.
        to: ``caption`` or ``medium``.

    """

    def __init__(self, extractor: Extractor, name: str = "CLIPScore", to: str = "caption") -> None:
        super().__init__(extractor, name)
        if to not in ("caption", "medium"):
            raise UserError(f"to={to!r}: 'caption' or 'medium'")
        self.to = to

    def __call__(self, predictions: Sequence[Prediction], folder: Path, data: Path) -> dict[str, Estimate]:
        """Not below 0, averaged over the replies that hold a medium."""
        ours, shown = self._features(predictions, folder)
        if self.to == "caption":
            _need_references(shown)
            theirs = self.extractor.captions([p.references[0] for p in shown]).double()
        else:
            theirs = self._references(shown, data)
        return {self.name: bootstrap.of_mean(similarity(ours, theirs).numpy())}


class MelCepstral(Score):
    """Mel-cepstral distance of generated sounds to their references, by mel-cepstral-distance."""

    def __call__(self, predictions: Sequence[Prediction], folder: Path, data: Path) -> dict[str, Estimate]:
        """``MCD`` in decibels, frames aligned by dynamic time warping."""
        from nextgpt_pl.metrics.mel_cepstral import mel_cepstral_distances

        found = [(_first(p, p.reference["type"]), p.reference) for p in predictions if p.reference]
        pairs = [(made, reference) for made, reference in found if made is not None]
        ours = [inside(folder, made["file"]) for made, _ in pairs]
        theirs = [inside(data, reference["file"]) for _, reference in pairs]
        return {"MCD": bootstrap.of_mean(np.array(mel_cepstral_distances(ours, theirs)))}


def _first(prediction: Prediction, kind: str) -> dict[str, Any] | None:
    """The first medium of a type in a reply."""
    return next((medium for medium in prediction.media if medium["type"] == kind), None)


def _need_references(predictions: Sequence[Prediction]) -> None:
    for prediction in predictions:
        if not prediction.references:
            raise ValueError(f"item {prediction.key} has no reference text")


def _tokens(predictions: Sequence[Prediction]) -> tuple[list[list[str]], list[list[list[str]]]]:
    _need_references(predictions)
    candidates = [tokenize(p.text) for p in predictions]
    return candidates, [[tokenize(r) for r in p.references] for p in predictions]
