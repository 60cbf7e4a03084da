"""One process of the verb ``test`` with a model that draws noise: ``run_test_verb.py CONFIG RUN [FAIL_ON_RANK]``."""

import os
import sys

import numpy as np

from nextgpt_pl.__main__ import main
from nextgpt_pl.pipeline import AnyToAny
from nextgpt_pl.samples import ReplyPart


class Painter:
    """Its picture depends on the item's seed alone, and every fifth one is black."""

    def batch(self, conversations, *, seeds, **options):
        if os.environ.get("RANK", "alone") == os.environ.get("FAIL_ON_RANK"):
            raise RuntimeError("out of paint")
        return [
            [ReplyPart("text", text=f"picture {seed}"), ReplyPart("image", array=self._draw(seed))] for seed in seeds
        ]

    @staticmethod
    def _draw(seed):
        shape = (16, 16, 3)
        return np.random.default_rng(seed).integers(0, 256, shape, np.uint8) if seed % 50 else np.zeros(shape, np.uint8)


if __name__ == "__main__":
    AnyToAny.from_run = lambda *_, **__: Painter()
    sys.exit(main(["test", "-c", sys.argv[1], "--run", sys.argv[2]]))
