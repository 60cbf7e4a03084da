"""How good a decoder is on held-out scenes, read by the exact judges."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from nextgpt_pl.modality import Modality
from nextgpt_pl.pocket import grammar, judge
from nextgpt_pl.pocket.world import ImageScene, Scene, item_rng, item_scene

# sampling of each decoder; the experiments use the same
SAMPLING: dict[Modality, dict[str, Any]] = {
    Modality.IMAGE: {"num_inference_steps": 20, "guidance_scale": 3.0, "height": 64, "width": 64},
    Modality.VIDEO: {"num_inference_steps": 20, "guidance_scale": 3.0, "height": 64, "width": 64, "num_frames": 8},
    Modality.AUDIO: {"num_inference_steps": 20, "guidance_scale": 3.0, "audio_length_in_s": 2.0},
}


def as_arrays(output: Any, modality: Modality) -> list[np.ndarray]:
    """A pipeline's ``output_type="np"`` result as the arrays that the judges and :class:`Media` use."""
    if modality is Modality.AUDIO:
        return [np.asarray(a, np.float32) for a in output.audios]
    values = output.images if modality is Modality.IMAGE else output.frames
    return [np.rint(np.asarray(v) * 255).clip(0, 255).astype(np.uint8) for v in values]


@torch.no_grad()
def measure(pipeline: Any, modality: Modality, count: int = 96, batch: int = 16, seed: int = 0) -> dict[str, float]:
    """Share of ``count`` held-out captions whose sample has each attribute, and all attributes, right."""
    pipeline.set_progress_bar_config(disable=True)
    scenes = [item_scene("heldout", modality, i) for i in range(count)]
    captions = [grammar.caption(s, item_rng("heldout", modality, i, 0, "words")) for i, s in enumerate(scenes)]
    results: list[tuple[Scene, dict[str, bool]]] = []
    started = time.perf_counter()
    for start in tqdm(range(0, count, batch), desc=f"{modality} samples"):
        generator = torch.Generator().manual_seed(seed + start)
        output = pipeline(captions[start : start + batch], output_type="np", generator=generator, **SAMPLING[modality])
        for scene, array in zip(scenes[start:], as_arrays(output, modality), strict=False):
            results.append((scene, judge.matches(judge.judge(array, modality), scene)))
    seconds = (time.perf_counter() - started) / count
    scores = {"all_right": _share(results, None), "seconds_per_sample": seconds}
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
