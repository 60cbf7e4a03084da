"""Scores on features of media: distances between sets, and similarities."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from nextgpt_pl.errors import UserError
from nextgpt_pl.evaluation import bootstrap
from nextgpt_pl.evaluation.bootstrap import Estimate
from nextgpt_pl.evaluation.records import Prediction, as_media, reference_folder
from nextgpt_pl.evaluation.scores import SharedScore, first_medium, need_references
from nextgpt_pl.evaluation.shared_work import SharedWork
from nextgpt_pl.metrics import distributions
from nextgpt_pl.metrics.extractors import Extractor

_MOST_FEATURES = 512  # a Frechet distance of wider features has no interval, since resampling takes too long


class _OfFeatures(SharedScore):
    """A score on features of media.

    Args:
        extractor: feature extractor.
        name: name of the score.

    """

    def __init__(self, extractor: Extractor, name: str) -> None:
        self.extractor, self.name = extractor, name

    def _features(
        self, predictions: Sequence[Prediction], folder: Path, work: SharedWork
    ) -> tuple[Tensor, list[Prediction]]:
        """Features ``(N, D)`` of the first medium of the scored type in each reply, and the N predictions with one."""
        references = [p.reference for p in predictions if p.reference]
        # the type of the references; without references, that of the first generated medium
        kind = next((medium["type"] for medium in [*references, *(m for p in predictions for m in p.media)]), "")
        generated = [(p, medium) for p in predictions if (medium := first_medium(p, kind)) is not None]
        if len(generated) < 2:
            raise ValueError(f"{self.name}: {len(generated)} of {len(predictions)} replies hold a medium; 2 are needed")
        features = work.media(self.extractor, [as_media(folder, medium) for _, medium in generated])
        return features, [p for p, _ in generated]

    def _references(self, predictions: Sequence[Prediction], folder: Path, data: Path, work: SharedWork) -> Tensor:
        references = [p.reference for p in predictions if p.reference is not None]
        media = [as_media(reference_folder(reference, folder, data), reference) for reference in references]
        if len(media) < 2:
            raise ValueError(
                f"{self.name}: {len(media)} of {len(predictions)} items have a reference medium; 2 are needed"
            )
        return work.media(self.extractor, media)


class Frechet(_OfFeatures):
    """Frechet distance of generated and reference media; the extractor makes it FID, FVD, FAD or FD."""

    def compute(
        self, predictions: Sequence[Prediction], folder: Path, data: Path, work: SharedWork
    ) -> dict[str, Estimate]:
        """From unbiased covariances."""
        ours, theirs = self._features(predictions, folder, work)[0], self._references(predictions, folder, data, work)
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

    def compute(
        self, predictions: Sequence[Prediction], folder: Path, data: Path, work: SharedWork
    ) -> dict[str, Estimate]:
        """Mean over the subsets, plus and minus 1.96 standard errors; no interval with fewer than 3 items in a set."""
        ours, theirs = self._features(predictions, folder, work)[0], self._references(predictions, folder, data, work)
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

    def compute(
        self, predictions: Sequence[Prediction], folder: Path, data: Path, work: SharedWork
    ) -> dict[str, Estimate]:
        """Mean over the splits, plus and minus 1.96 standard deviations; a single split has no interval."""
        ours = self._features(predictions, folder, work)[0]
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

    def compute(
        self, predictions: Sequence[Prediction], folder: Path, data: Path, work: SharedWork
    ) -> dict[str, Estimate]:
        """Mean over the replies that hold a medium; negative similarities count as 0."""
        ours, with_medium = self._features(predictions, folder, work)
        if self.to == "caption":
            need_references(with_medium)
            theirs = work.captions(self.extractor, [p.references[0] for p in with_medium])
        else:
            theirs = self._references(with_medium, folder, data, work)
        return {self.name: bootstrap.of_mean(distributions.similarity(ours, theirs).numpy())}
