"""Quality of the pocket decoders by number of denoising steps: python benchmarks/sampler_steps.py

Held-out captions, by the decoder's own text encoder; media are judged exactly. Prints how many are right in all
attributes, and CPU seconds per medium, relative to the experiments' number of steps.
"""

from __future__ import annotations

import argparse
import time

import torch

from nextgpt_pl.modality import GENERATED, Modality
from nextgpt_pl.pocket.judges.media import judge, matches
from nextgpt_pl.pocket.parts import pocket_decoder
from nextgpt_pl.pocket.world.items import captioned_pair
from nextgpt_pl.pocket.world.scenes import scene_of

STEPS = (20, 12, 10, 8, 5)
_BATCH = 10


def measure(modality: Modality, count: int, steps: int | None) -> tuple[int, float]:
    """Right media, and CPU seconds; ``steps=None``: the decoder's own number."""
    decoder = pocket_decoder(modality)
    items = [captioned_pair("heldout", modality, number) for number in range(count)]
    embeddings = decoder.embed_captions([item.caption for item in items])
    options = {} if steps is None else {"num_inference_steps": steps}
    right, started = 0, time.process_time()
    for first in range(0, count, _BATCH):
        batch = embeddings[first : first + _BATCH]
        media = decoder.generate(batch, seed=list(range(first, first + len(batch))), **options)
        for item, medium in zip(items[first : first + _BATCH], media, strict=True):
            assert item.attributes is not None
            right += all(matches(judge(medium, modality), scene_of(item.attributes)).values())
    return right, time.process_time() - started


def main() -> None:
    """Parse the arguments and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=100, help="captions of each modality")
    parser.add_argument("--modality", choices=[m.value for m in GENERATED], action="append", help="all without it")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for modality in map(Modality, arguments.modality or [m.value for m in GENERATED]):
        measure(modality, 1, 1)  # what is read late is read now
        own, seconds = measure(modality, arguments.count, None)
        print(f"{modality}, as in the experiments: {own} of {arguments.count} right", flush=True)
        for steps in STEPS:
            right, took = measure(modality, arguments.count, steps)
            print(f"  {steps:>3} steps: {right} right, {took / seconds:.2f} times the time", flush=True)


if __name__ == "__main__":
    main()
