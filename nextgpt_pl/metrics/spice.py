"""SPICE, by pycocoevalcap: a Java program that compares the scenes that captions describe; and SPIDEr, with CIDEr-D.

Optional: it needs two jars of Stanford CoreNLP 3.6.0, which nobody may fetch unasked, and several gigabytes of memory.
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
    """The jars that are not where pycocoevalcap looks for them.

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
        UserError: Java, pycocoevalcap or CoreNLP's jars are missing; says where they belong.
        ValueError: no items, one without references, or one that the parser could make nothing of.

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
    found = np.array([float(item["All"]["f"]) for item in items])
    if np.isnan(found).any():
        numbers = np.isnan(found).nonzero()[0].tolist()
        raise ValueError(f"SPICE: the parser made nothing of {len(numbers)} items, the first is number {numbers[0]}")
    return found


def spider(candidates: Sequence[Tokens], references: Sequence[Sequence[Tokens]]) -> tuple[np.ndarray, np.ndarray]:
    """SPICE, and SPIDEr, the mean of SPICE and CIDEr-D (as in audio captioning), each ``(N,)``."""
    found = spice(candidates, references)
    return found, (found + cider_d(candidates, references)) / 2
