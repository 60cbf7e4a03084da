"""How good the pocket decoders are on held-out captions, read by the exact judges."""

from __future__ import annotations

import json
import time
from pathlib import Path

import torch
from tqdm import tqdm

from nextgpt_pl.modality import Modality
from nextgpt_pl.pocket.judges import media as judge
from nextgpt_pl.pocket.parts import QUALITY, pocket_decoder
from nextgpt_pl.pocket.world import grammar
from nextgpt_pl.pocket.world.scenes import ImageScene, Scene, item_rng, item_scene
from nextgpt_pl.utils.paths import pocket_weights


def heldout_captions(modality: Modality, count: int) -> tuple[list[Scene], list[str]]:
    """The first held-out scenes and their captions."""
    scenes = [item_scene("heldout", modality, i) for i in range(count)]
    return scenes, [grammar.caption(s, item_rng("heldout", modality, i, 0, "words")) for i, s in enumerate(scenes)]


def decoder_score(modality: Modality, count: int) -> float:
    """Share of held-out captions that the package's decoder draws all right from its own text encoder.

    The weights are frozen: what ``pocket measure`` recorded of at least ``count`` captions stands.
    """
    file = pocket_weights() / modality.value / QUALITY
    known = json.loads(file.read_text()).get("measured", {}) if file.is_file() else {}
    found = known if known.get("items", 0) >= count else drawn_right(modality, count=count)
    return float(found["all_right"])


@torch.no_grad()
def drawn_right(
    modality: Modality, root: Path | None = None, count: int = 96, batch: int = 25, seed: int = 0
) -> dict[str, float]:
    """Share of ``count`` held-out captions whose sample has each attribute, and all attributes, right."""
    decoder = pocket_decoder(modality, root)
    scenes, captions = heldout_captions(modality, count)
    results: list[tuple[Scene, dict[str, bool]]] = []
    started = time.perf_counter()
    for start in tqdm(range(0, count, batch), desc=f"{modality} samples"):
        embeddings = decoder.embed_captions(captions[start : start + batch])
        arrays = decoder.generate(embeddings, seed=seed + start)
        for scene, array in zip(scenes[start:], arrays, strict=False):
            results.append((scene, judge.matches(judge.judge(array, modality), scene)))
    seconds = (time.perf_counter() - started) / count
    scores = {"items": float(count), "all_right": _share(results, None), "seconds_per_sample": seconds}
    if modality is Modality.IMAGE:
        for number in (1, 2):
            group = [r for r in results if isinstance(r[0], ImageScene) and len(r[0].things) == number]
            scores[f"all_right_{number}_object"] = _share(group, None)
    for name in sorted({name for _, found in results for name in found}):
        scores[name] = _share([r for r in results if name in r[1]], name)
    return scores


def _share(results: list[tuple[Scene, dict[str, bool]]], name: str | None) -> float:
    right = [all(found.values()) if name is None else found[name] for _, found in results]
    return sum(right) / max(1, len(right))
