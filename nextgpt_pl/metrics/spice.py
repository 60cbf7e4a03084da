"""SPICE by pycocoevalcap, a Java program that compares scene graphs of captions; and SPIDEr, its mean with CIDEr-D.

It needs two jars of Stanford CoreNLP 3.6.0, which are not downloaded automatically, and several gigabytes of memory.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from nextgpt_pl.errors import UserError
from nextgpt_pl.metrics.captions import cider_d
from nextgpt_pl.metrics.tokens import Tokens

JARS = ("stanford-corenlp-3.6.0.jar", "stanford-corenlp-3.6.0-models.jar")


def missing_jars() -> list[Path]:
    """Paths of missing jars.

    Raises:
        UserError: pycocoevalcap or Java is missing.

    """
    try:
        from pycocoevalcap.spice import spice
    except ImportError as error:
        raise UserError("SPICE: pip install 'nextgpt-pl[metrics]' (pycocoevalcap)") from error
    if shutil.which("java") is None:
        raise UserError("SPICE: no java on the PATH; its parser is a Java program")
    folder = Path(spice.__file__).parent / "lib"
    return [folder / name for name in JARS if not (folder / name).is_file()]


def spice(candidates: Sequence[Tokens], references: Sequence[Sequence[Tokens]]) -> np.ndarray:
    """F-scores ``(N,)`` of tokenised captions; the corpus score is their mean.

    Raises:
        UserError: Java, pycocoevalcap or CoreNLP's jars are missing; the message names the jars' folder.
        ValueError: there are no items, an item has no reference, or the parser failed on an item.

    """
    missing = missing_jars()
    if missing:
        raise UserError(
            f"SPICE: {' and '.join(jar.name for jar in missing)} of Stanford CoreNLP 3.6.0 (2015-12-09) belong in"
            f" {missing[0].parent}"
        )
    if not candidates or not all(references):
        raise ValueError(f"SPICE of {len(candidates)} items: at least one is needed, each with a reference")
    from pycocoevalcap.spice.spice import Spice

    results = {i: [" ".join(tokens) or "."] for i, tokens in enumerate(candidates)}
    truths = {i: [" ".join(tokens) for tokens in refs] for i, refs in enumerate(references)}
    _, items = Spice().compute_score(truths, results)
    scores = np.array([float(item["All"]["f"]) for item in items])
    if np.isnan(scores).any():
        numbers = np.isnan(scores).nonzero()[0].tolist()
        raise ValueError(f"SPICE: the parser made nothing of {len(numbers)} items, the first is number {numbers[0]}")
    return scores


def spider(candidates: Sequence[Tokens], references: Sequence[Sequence[Tokens]]) -> tuple[np.ndarray, np.ndarray]:
    """SPICE, and SPIDEr, the mean of SPICE and CIDEr-D (as in audio captioning), each ``(N,)``."""
    spice_scores = spice(candidates, references)
    return spice_scores, (spice_scores + cider_d(candidates, references)) / 2
