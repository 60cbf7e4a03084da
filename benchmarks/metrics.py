"""Caption and set scores against the usual implementations, in one run: python benchmarks/metrics.py

CIDEr-D of 40,000 items with 5 references each against pycocoevalcap's scorer, in turns, and the Frechet distance of
50,000 x 2,048 features. Prints times, their ratio, and that the numbers agree. Needs the extra ``metrics``.
"""

from __future__ import annotations

import argparse
import time
from random import Random
from statistics import median

import torch
from pycocoevalcap.cider.cider import Cider

from nextgpt_pl.metrics import FrechetDistance
from nextgpt_pl.metrics.captions import cider_d


def _captions(items: int, references: int) -> tuple[list[list[str]], list[list[list[str]]]]:
    """Tokens whose frequencies fall as those of words do, about ten a caption."""
    rng = Random(0)
    vocabulary = [f"w{i}" for i in range(8_000)]
    weights = [1 / (i + 3) for i in range(len(vocabulary))]

    def caption() -> list[str]:
        return rng.choices(vocabulary, weights, k=8 + rng.randrange(6))

    return [caption() for _ in range(items)], [[caption() for _ in range(references)] for _ in range(items)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=40_000)
    parser.add_argument("--features", type=int, default=50_000)
    parser.add_argument("--width", type=int, default=2_048)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()

    candidates, references = _captions(arguments.items, 5)
    results = {i: [" ".join(c)] for i, c in enumerate(candidates)}
    truths = {i: [" ".join(r) for r in refs] for i, refs in enumerate(references)}
    ours, theirs = [], []
    for _ in range(arguments.repeats):  # alternating, so that other load on the machine affects both
        started = time.perf_counter()
        score = float(cider_d(candidates, references).mean())
        ours.append(time.perf_counter() - started)
        started = time.perf_counter()
        reference, _ = Cider().compute_score(truths, results)
        theirs.append(time.perf_counter() - started)
    print(f"CIDEr-D of {arguments.items:,} items: {median(ours):.1f} s, pycocoevalcap {median(theirs):.1f} s, ", end="")
    print(f"{median(theirs) / median(ours):.1f} times as fast; {score:.9f} against {reference:.9f}")

    generator = torch.Generator().manual_seed(0)
    started = time.perf_counter()
    metric = FrechetDistance(arguments.width)
    for start in range(0, arguments.features, 2_000):
        count = min(2_000, arguments.features - start)
        for real in (True, False):
            metric.update(torch.randn(count, arguments.width, generator=generator) + real * 0.1, real=real)
    distance, seconds = float(metric.compute()), time.perf_counter() - started
    print(f"FID of {arguments.features:,} x {arguments.width:,} features: {seconds:.1f} s ({distance:.4f})")


if __name__ == "__main__":
    main()
