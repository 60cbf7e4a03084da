"""Scores of a task, with 95% intervals; computed from predictions and media files, without the model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from nextgpt_pl.errors import UserError
from nextgpt_pl.evaluation import bootstrap
from nextgpt_pl.evaluation.bootstrap import Estimate
from nextgpt_pl.evaluation.records import Prediction, as_media, reference_folder
from nextgpt_pl.metrics import captions as caption_metrics
from nextgpt_pl.metrics import distributions, mel_cepstral, meteor, spice, vqa
from nextgpt_pl.metrics.extractors import Extractor
from nextgpt_pl.metrics.tokens import tokenize
from nextgpt_pl.readers.files import inside

CaptionScore = Literal["CIDEr-D", "ROUGE-L", "BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4"]
_MOST_CAPTIONS = 2_000  # BLEU of more captions has no interval, since resampling takes too long
_MOST_FEATURES = 512  # the same for a Frechet distance of wider features


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


class CaptionQuality(Score):
    """CIDEr-D, BLEU-1 to BLEU-4 and ROUGE-L of the replies' texts.

    Args:
        only: names of the scores to compute; by default all.

    """

    def __init__(self, only: Sequence[CaptionScore] | None = None) -> None:
        self.only = get_args(CaptionScore) if only is None else only

    def __call__(self, predictions: Sequence[Prediction], folder: Path, data: Path) -> dict[str, Estimate]:
        """As COCO's caption evaluation computes them."""
        candidates, references = _tokens(predictions)
        means = {"CIDEr-D": caption_metrics.cider_d, "ROUGE-L": caption_metrics.rouge_l}
        per_item = {name: mean(candidates, references) for name, mean in means.items() if name in self.only}
        scores = dict(zip(per_item, bootstrap.of_means(list(per_item.values())), strict=True))
        corpus = [name for name in self.only if name not in means]
        counts = caption_metrics.bleu_counts(candidates, references) if corpus else np.empty(0)
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
        _need_references(predictions)
        return {"accuracy": bootstrap.of_mean(np.array([vqa.vqa_accuracy(p.text, p.references) for p in predictions]))}


class _OfFeatures(Score):
    """A score on features of media.

    Args:
        extractor: feature extractor.
        name: name of the score.

    """

    def __init__(self, extractor: Extractor, name: str) -> None:
        self.extractor, self.name = extractor, name

    def _features(self, predictions: Sequence[Prediction], folder: Path) -> tuple[Tensor, list[Prediction]]:
        """Features ``(N, D)`` of the first medium of the scored type in each reply, and the N predictions with one."""
        references = [p.reference for p in predictions if p.reference]
        # the type of the references; without references, that of the first generated medium
        kind = next((medium["type"] for medium in [*references, *(m for p in predictions for m in p.media)]), "")
        generated = [(p, medium) for p in predictions if (medium := _first(p, kind)) is not None]
        if len(generated) < 2:
            raise ValueError(f"{self.name}: {len(generated)} of {len(predictions)} replies hold a medium; 2 are needed")
        features = self.extractor.media([as_media(folder, medium) for _, medium in generated]).double()
        return features, [p for p, _ in generated]

    def _references(self, predictions: Sequence[Prediction], folder: Path, data: Path) -> Tensor:
        references = [p.reference for p in predictions if p.reference is not None]
        media = [as_media(reference_folder(reference, folder, data), reference) for reference in references]
        if len(media) < 2:
            raise ValueError(
                f"{self.name}: {len(media)} of {len(predictions)} items have a reference medium; 2 are needed"
            )
        return self.extractor.media(media).double()


class Frechet(_OfFeatures):
    """Frechet distance of generated and reference media; the extractor makes it FID, FVD, FAD or FD."""

    def __call__(self, predictions: Sequence[Prediction], folder: Path, data: Path) -> dict[str, Estimate]:
        """From unbiased covariances."""
        ours, theirs = self._features(predictions, folder)[0], self._references(predictions, folder, data)
        for features, which in ((ours, "generated"), (theirs, "reference")):
            distributions.check_moments(len(features), torch.cov(features.T), features.square().sum(1).mean(), which)
        distance_to_theirs = distributions.frechet_distance_to(theirs.mean(0), torch.cov(theirs.T))

        def distance(chosen: np.ndarray) -> float:
            drawn = ours[torch.from_numpy(chosen)]
            return float(distance_to_theirs(drawn.mean(0), torch.cov(drawn.T)))

        resamples = 100 if ours.shape[1] <= _MOST_FEATURES else 0
        return {self.name: bootstrap.of_set(distance, len(ours), resamples=resamples)}


class Kernel(_OfFeatures):
    """Kernel distance (KID) over random subsets; the interval is a jackknife over all items, whatever the subset size.

    Args:
        extractor: feature extractor.
        name: name of the score.
        subsets: number of subsets.
        subset_size: maximum number of items of a subset.

    """

    def __init__(self, extractor: Extractor, name: str = "KID", subsets: int = 100, subset_size: int = 1000) -> None:
        super().__init__(extractor, name)
        self.subsets, self.subset_size = subsets, subset_size

    def __call__(self, predictions: Sequence[Prediction], folder: Path, data: Path) -> dict[str, Estimate]:
        """Mean over the subsets, plus and minus 1.96 standard errors; no interval with fewer than 3 items in a set."""
        ours, theirs = self._features(predictions, folder)[0], self._references(predictions, folder, data)
        mean = float(distributions.kernel_distance(ours, theirs, self.subsets, self.subset_size)[0])
        error = float(distributions.kernel_error(ours, theirs)) if min(len(ours), len(theirs)) >= 3 else None
        return {self.name: bootstrap.of_error(mean, error, len(ours))}


class Inception(_OfFeatures):
    """Inception score.

    Args:
        extractor: extractor of class logits.
        name: name of the score.
        splits: number of splits, whose mean and standard deviation are reported.

    """

    def __init__(self, extractor: Extractor, name: str = "IS", splits: int = 10) -> None:
        super().__init__(extractor, name)
        self.splits = splits

    def __call__(self, predictions: Sequence[Prediction], folder: Path, data: Path) -> dict[str, Estimate]:
        """Mean over the splits, plus and minus 1.96 standard deviations; a single split has no interval."""
        ours = self._features(predictions, folder)[0]
        mean, std = (float(v) for v in distributions.inception_score(ours, self.splits))
        return {self.name: bootstrap.of_error(mean, std if self.splits > 1 else None, len(ours))}


class Similarity(_OfFeatures):
    """100 x cosine similarity of generated media to their captions or reference media.

    With captions it is CLIPScore, CLIPSIM (videos), CLIP-T or CLAPScore; with reference media it is CLIP-I.

    Args:
        extractor: feature extractor.
        name: name of the score.
        to: ``caption`` or ``medium``.

    """

    def __init__(self, extractor: Extractor, name: str = "CLIPScore", to: str = "caption") -> None:
        super().__init__(extractor, name)
        if to not in ("caption", "medium"):
            raise UserError(f"to={to!r}: 'caption' or 'medium' is expected")
        self.to = to

    def __call__(self, predictions: Sequence[Prediction], folder: Path, data: Path) -> dict[str, Estimate]:
        """Mean over the replies that hold a medium; negative similarities count as 0."""
        ours, with_medium = self._features(predictions, folder)
        if self.to == "caption":
            _need_references(with_medium)
            theirs = self.extractor.captions([p.references[0] for p in with_medium]).double()
        else:
            theirs = self._references(with_medium, folder, data)
        return {self.name: bootstrap.of_mean(distributions.similarity(ours, theirs).numpy())}


class MelCepstral(Score):
    """Mel-cepstral distance of generated sounds to their references, by mel-cepstral-distance."""

    def __call__(self, predictions: Sequence[Prediction], folder: Path, data: Path) -> dict[str, Estimate]:
        """``MCD`` in decibels; frames are aligned by dynamic time warping."""
        compared = [(o, r) for p in predictions if (r := p.reference) and (o := _first(p, r["type"]))]
        ours = [inside(folder, own["file"]) for own, _ in compared]
        theirs = [inside(reference_folder(r, folder, data), r["file"]) for _, r in compared]
        return {"MCD": bootstrap.of_mean(np.array(mel_cepstral.mel_cepstral_distances(ours, theirs)))}


def _first(prediction: Prediction, kind: str) -> dict[str, Any] | None:
    """The first medium of a type in a reply."""
    return next((medium for medium in prediction.media if medium["type"] == kind), None)


def _need_references(predictions: Sequence[Prediction]) -> None:
    for prediction in predictions:
        if not prediction.references:
            raise ValueError(f"item {prediction.key} has no reference text")


def _tokens(predictions: Sequence[Prediction]) -> tuple[list[list[str]], list[list[list[str]]]]:
    """Tokens of each reply, and of each of its references."""
    _need_references(predictions)
    return [tokenize(p.text) for p in predictions], [[tokenize(r) for r in p.references] for p in predictions]
