"""Retrieval, generation and their mix on held-out requests of the pocket world: python benchmarks/retrieval_mix.py

The package's model reads the requests. Its caption embeddings go to a decoder, and to two galleries: one has items of
the combinations of attributes that training has, the other one also items of held-out combinations, in other words and
renderings than those of the requests. Exact judges tell the media that have all attributes right. A mix has the media
that one of the two gives alone; its seconds per request are those of the search, and of the share that is generated.
Diversity is the mean cosine distance of the media for one request under several seeds, by the pocket encoder.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from figures import save

from nextgpt_pl import AnyToAny
from nextgpt_pl.decoders.retrieval import RetrievalDecoder
from nextgpt_pl.evaluation import PocketRoute
from nextgpt_pl.generation.decoding import Decoding
from nextgpt_pl.generation.signals import caption_embeddings
from nextgpt_pl.modality import GENERATED, Modality
from nextgpt_pl.pocket.judges.media import judge, matches
from nextgpt_pl.pocket.parts import JointEncoder
from nextgpt_pl.pocket.world.attributes import scene_of
from nextgpt_pl.pocket.world.items import captioned_pair
from nextgpt_pl.retrieval import GalleryBuilder

THRESHOLDS = (0.1, 0.2, 0.3)
SEEDS, DIVERSE = 4, 12  # seeds, and requests of which diversity is measured
BATCH = 50


def requests(chat: AnyToAny, modality: Modality, count: int) -> tuple[torch.Tensor, list[Any]]:
    """Caption embeddings that the model writes for held-out requests, and the expected scenes."""
    items = list(PocketRoute(f"text->{modality}", [], count=count).items())
    embeddings, scenes = [], []
    for start in range(0, count, BATCH):
        part = items[start : start + BATCH]
        written = chat._written([item.messages for item in part], Decoding(120, seed=0))
        for item, found in zip(part, caption_embeddings(chat.network, written), strict=True):
            if found:
                embeddings.append(found[0])
                scenes.append(scene_of(item.expected[0][1]))
    return torch.stack(embeddings), scenes


def gallery(folder: Path, decoder: Any, modality: Modality, items: int, held_out: bool) -> RetrievalDecoder:
    """A gallery of training items, and with ``held_out`` of as many items of held-out combinations."""
    pairs = [captioned_pair("train", modality, i) for i in range(items)]
    if held_out:
        pairs += [captioned_pair("heldout", modality, i, seed=1) for i in range(items)]
    builder = GalleryBuilder(
        folder, modality, decoder.captions.producer(), decoder.embed_captions, {"held out": held_out}
    )
    builder.build(pairs, [])
    return RetrievalDecoder(decoder, modality.value, folder)


def right(arrays: Sequence[np.ndarray], scenes: Sequence[Any], modality: Modality) -> np.ndarray:
    """Per medium, whether all attributes are right, and the share of those that are, ``(N, 2)``."""
    found = [matches(judge(array, modality), scene) for array, scene in zip(arrays, scenes, strict=True)]
    return np.array([[all(f.values()), np.mean(list(f.values()))] for f in found])


def diversity(generate: Callable[..., list[np.ndarray]], embeddings: torch.Tensor, modality: Modality) -> float:
    """Mean cosine distance of media for one request."""
    encoder = JointEncoder.of_package()
    distances = []
    for embedding in embeddings[:DIVERSE]:
        arrays = generate(embedding.expand(SEEDS, *embedding.shape), seed=list(range(SEEDS)))
        features = encoder.embed_media(arrays, modality)
        pairs = (features @ features.T)[~torch.eye(SEEDS, dtype=torch.bool)]
        distances.append(1 - float(pairs.mean()))
    return float(np.mean(distances))


@torch.no_grad()
def measured(chat: AnyToAny, modality: Modality, count: int, items: int, scratch: Path) -> dict[str, Any]:
    """The figures of one modality."""
    decoder = chat.network.decoders[modality]
    embeddings, scenes = requests(chat, modality, count)
    seeds = list(range(len(scenes)))
    decoder.generate(embeddings[:1], seed=0)  # loads the weights
    began = time.perf_counter()
    drawn = decoder.generate(embeddings, seed=seeds)
    of_drawing = (time.perf_counter() - began) / len(scenes)
    drawn_right = right(drawn, scenes, modality)
    found: dict[str, Any] = {"requests": len(scenes)}
    found["generation"] = _row(drawn_right, of_drawing) | {
        "diversity": diversity(decoder.generate, embeddings, modality)
    }
    for held_out in (False, True):
        name = "gallery with held-out combinations" if held_out else "gallery of training combinations"
        retrieving = gallery(scratch / f"{modality}-{held_out}", decoder, modality, items, held_out)
        retrieving.retrieve(embeddings[:1], seeds[:1])
        began = time.perf_counter()
        results = retrieving.retrieve(embeddings, seeds)
        of_search = (time.perf_counter() - began) / len(scenes)
        retrieved_right = right([r.array for r in results], scenes, modality)
        distances = np.array([r.distance for r in results])
        rows = {"retrieval": _row(retrieved_right, of_search)}
        rows["retrieval"]["diversity"] = diversity(retrieving.generate, embeddings, modality)
        rows["retrieval"]["distance, quartiles"] = np.quantile(distances, (0.5, 0.25, 0.75)).tolist()
        for threshold in THRESHOLDS:
            near = distances <= threshold
            mixed = np.where(near[:, None], retrieved_right, drawn_right)
            seconds = of_search + (1 - near.mean()) * of_drawing
            shares = {"all right": float(mixed[:, 0].mean()), "share retrieved": float(near.mean())}
            rows[f"threshold {threshold:g}"] = shares | {"seconds per request": seconds}
        found[name] = rows
    return found


def _row(values: np.ndarray, seconds: float) -> dict[str, float]:
    means = values.mean(0)
    return {"all right": float(means[0]), "attributes right": float(means[1]), "seconds per request": seconds}


def main() -> None:
    """Parse the arguments, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=300, help="requests per modality")
    parser.add_argument("--items", type=int, default=4096, help="items of each kind in a gallery")
    parser.add_argument("--modalities", nargs="+", default=[m.value for m in GENERATED])
    parser.add_argument("--json", type=Path, help="file for the figures")
    options = parser.parse_args()
    chat, figures = AnyToAny.from_run(), {}
    with tempfile.TemporaryDirectory() as scratch:
        for name in options.modalities:
            figures[name] = measured(chat, Modality(name), options.count, options.items, Path(scratch))
            print(json.dumps({name: figures[name]}, indent=2), flush=True)
            save(options.json, figures)


if __name__ == "__main__":
    main()
