"""How good a decoder is on held-out scenes, read by the exact judges."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from nextgpt_pl.decoders import AudioLDMDecoder, DiffusionDecoder
from nextgpt_pl.modality import Modality
from nextgpt_pl.pocket import grammar, judge
from nextgpt_pl.pocket.weights import weights_root
from nextgpt_pl.pocket.world import ImageScene, Scene, item_rng, item_scene

# sampling of each decoder; the experiments use the same
SAMPLING: dict[Modality, dict[str, Any]] = {
    Modality.IMAGE: {"num_inference_steps": 20, "guidance_scale": 3.0, "height": 64, "width": 64},
    Modality.VIDEO: {"num_inference_steps": 20, "guidance_scale": 3.0, "height": 64, "width": 64, "num_frames": 8},
    Modality.AUDIO: {"num_inference_steps": 20, "guidance_scale": 3.0, "audio_length_in_s": 2.0},
}
_PIPELINES = {
    Modality.IMAGE: "StableDiffusionPipeline",
    Modality.VIDEO: "TextToVideoSDPipeline",
    Modality.AUDIO: "AudioLDMPipeline",
}


def as_arrays(output: Any, modality: Modality) -> list[np.ndarray]:
    """A pipeline's ``output_type="np"`` result as the arrays that the judges and :class:`Media` use."""
    if modality is Modality.AUDIO:
        return [np.asarray(a, np.float32) for a in output.audios]
    values = output.images if modality is Modality.IMAGE else output.frames
    return [np.rint(np.asarray(v) * 255).clip(0, 255).astype(np.uint8) for v in values]


def heldout_captions(modality: Modality, count: int) -> tuple[list[Scene], list[str]]:
    """The first held-out scenes and their captions."""
    scenes = [item_scene("heldout", modality, i) for i in range(count)]
    return scenes, [grammar.caption(s, item_rng("heldout", modality, i, 0, "words")) for i, s in enumerate(scenes)]


def shipped_pipeline(modality: Modality) -> Any:
    """A decoder of the package, with its text encoder."""
    import diffusers

    absent = {"safety_checker": None, "feature_extractor": None} if modality is Modality.IMAGE else {}
    folder = weights_root() / modality.value
    pipeline = getattr(diffusers, _PIPELINES[modality]).from_pretrained(folder, torch_dtype=torch.float32, **absent)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def shipped_decoder(modality: Modality) -> DiffusionDecoder:
    """The same as the framework's decoder part."""
    decoder_class = AudioLDMDecoder if modality is Modality.AUDIO else DiffusionDecoder
    return decoder_class(_PIPELINES[modality], f"pocket:{modality}", SAMPLING[modality])


def measure_shipped(part: str, count: int) -> dict[str, float]:
    """Quality of a part of the package on held-out items; ``count`` of them for a decoder."""
    if part == "llm":
        from nextgpt_pl.pocket.pretrain.text import shipped_llm

        return shipped_llm().quality()
    if part == "encoder":
        from nextgpt_pl.pocket.pretrain.encoder import shipped_encoder

        return shipped_encoder().retrieval()
    from nextgpt_pl.pocket.pretrain.captions import embedding_quality

    modality = Modality(part)
    return {
        **measure(shipped_pipeline(modality), modality, count),
        **embedding_quality(shipped_decoder(modality).embed_captions, [modality]),
    }


@torch.no_grad()
def measure(pipeline: Any, modality: Modality, count: int = 96, batch: int = 25, seed: int = 0) -> dict[str, float]:
    """Share of ``count`` held-out captions whose sample has each attribute, and all attributes, right."""
    pipeline.set_progress_bar_config(disable=True)
    scenes, captions = heldout_captions(modality, count)
    results: list[tuple[Scene, dict[str, bool]]] = []
    started = time.perf_counter()
    for start in tqdm(range(0, count, batch), desc=f"{modality} samples"):
        generator = torch.Generator().manual_seed(seed + start)
        output = pipeline(captions[start : start + batch], output_type="np", generator=generator, **SAMPLING[modality])
        for scene, array in zip(scenes[start:], as_arrays(output, modality), strict=False):
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
