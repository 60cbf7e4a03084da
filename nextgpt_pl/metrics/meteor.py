"""METEOR by pycocoevalcap, a Java program that matches stems, synonyms and paraphrases."""

from __future__ import annotations

import shutil
from collections.abc import Sequence

from nextgpt_pl.errors import UserError
from nextgpt_pl.metrics.tokens import Tokens


def meteor(candidates: Sequence[Tokens], references: Sequence[Sequence[Tokens]]) -> tuple[float, list[float]]:
    """Corpus score and item scores of tokenised captions.

    Raises:
        UserError: Java or pycocoevalcap is missing.
        ValueError: there are no items, or an item has no reference.

    """
    try:
        from pycocoevalcap.meteor.meteor import Meteor
    except ImportError as error:
        raise UserError("METEOR: pip install 'nextgpt-pl[metrics]' (pycocoevalcap)") from error
    if shutil.which("java") is None:
        raise UserError("METEOR: no java on the PATH; its stemmer and paraphrase tables are a Java program")
    if not candidates or not all(references):
        raise ValueError(f"METEOR of {len(candidates)} items: at least one is needed, each with a reference")
    # the program skips empty lines, so an empty caption is replaced by a full stop
    results = {i: [" ".join(tokens) or "."] for i, tokens in enumerate(candidates)}
    truths = {i: [" ".join(tokens) for tokens in refs] for i, refs in enumerate(references)}
    scorer = Meteor()
    try:
        corpus, items = scorer.compute_score(truths, results)
    finally:
        scorer.meteor_p.kill()
    return float(corpus), [float(item) for item in items]
