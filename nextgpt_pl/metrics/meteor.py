"""METEOR, by pycocoevalcap: a Java program that matches stems, synonyms and paraphrases."""

from __future__ import annotations

import shutil
from collections.abc import Sequence

from nextgpt_pl.errors import UserError
from nextgpt_pl.metrics.tokens import Tokens


def meteor(candidates: Sequence[Tokens], references: Sequence[Sequence[Tokens]]) -> tuple[float, list[float]]:
    """Corpus score and the items' scores of tokenised captions.

    Raises:
        UserError: Java or pycocoevalcap is missing.
        ValueError: no items, or one without references.

    """
    try:
        from pycocoevalcap.meteor.meteor import Meteor
    except ImportError as error:
        raise UserError("METEOR: pip install 'nextgpt-pl[metrics]' (pycocoevalcap)") from error
    if shutil.which("java") is None:
        raise UserError("METEOR: no java on the PATH; its stemmer and paraphrase tables are a Java program")
    if not candidates or not all(references):
        raise ValueError(f"METEOR of {len(candidates)} items: at least one is needed, each with a reference")
    # keys decide the order; an empty caption would be no line at all for the program
    results = {i: [" ".join(tokens) or "."] for i, tokens in enumerate(candidates)}
    truths = {i: [" ".join(tokens) for tokens in refs] for i, refs in enumerate(references)}
    scorer = Meteor()
    try:
        corpus, items = scorer.compute_score(truths, results)
    finally:
        scorer.meteor_p.kill()
    return float(corpus), [float(item) for item in items]
