"""How good a decoder is on held-out scenes, read by the exact judges."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from nextgpt_pl.decoders import AudioLDMDecoder, DiffusionDecoder
from nextgpt_pl.modality import Modality
from nextgpt_pl.pocket.judges import media as judge
from nextgpt_pl.pocket.mel import compressed_mel
from nextgpt_pl.pocket.weights import QUALITY, weights_root
from nextgpt_pl.pocket.world import grammar
from nextgpt_pl.pocket.world.scenes import VIDEO_FPS, ImageScene, Scene, item_rng, item_scene

# the decoders of a folder of pocket weights; experiments/models/pocket.yaml says the same for the package's own
_PICTURES = {"num_inference_steps": 20, "guidance_scale": 3.0, "height": 64, "width": 64}
_CLASSES: dict[Modality, tuple[type[DiffusionDecoder], str, dict[str, Any]]] = {
    Modality.IMAGE: (DiffusionDecoder, "StableDiffusionPipeline", _PICTURES),
    Modality.VIDEO: (
        DiffusionDecoder,
        "TextToVideoSDPipeline",
        {**_PICTURES, "num_inference_steps": 12, "guidance_interval": [0.2, 0.7], "num_frames": 8},
    ),
    Modality.AUDIO: (
        AudioLDMDecoder,
        "AudioLDMPipeline",
        {"num_inference_steps": 20, "guidance_scale": 3.0, "audio_length_in_s": 2.0},
    ),
}
# parts that the video decoder has in common with the image decoder, and that are stored once
SHARED_PARTS = ("vae", "text_encoder", "tokenizer")


def heldout_captions(modality: Modality, count: int) -> tuple[list[Scene], list[str]]:
    """The first held-out scenes and their captions."""
    scenes = [item_scene("heldout", modality, i) for i in range(count)]
    return scenes, [grammar.caption(s, item_rng("heldout", modality, i, 0, "words")) for i, s in enumerate(scenes)]


def pocket_decoder(modality: Modality, root: Path | None = None) -> DiffusionDecoder:
    """A decoder of the package's weights, or of those in another folder."""
    root = root or weights_root()
    decoder_class, pipeline, sampling = _CLASSES[modality]
    more: dict[str, Any] = {}
    if modality is Modality.VIDEO:
        more = {"parts": dict.fromkeys(SHARED_PARTS, str(root / Modality.IMAGE.value)), "fps": VIDEO_FPS}
    elif modality is Modality.AUDIO:
        more = {"spectrogram": compressed_mel}
    return decoder_class(pipeline, str(root / modality.value), sampling=sampling, **more)


def measure_shipped(part: str, count: int) -> dict[str, float]:
    """Quality of a part of the package on held-out items; ``count`` of them for a decoder."""
    if part == "llm":
        from nextgpt_pl.pocket.pretrain.text import shipped_llm

        return shipped_llm().quality()
    if part == "encoder":
        from nextgpt_pl.pocket.pretrain.encoder import shipped_encoder

        return shipped_encoder().quality()
    return measure(Modality(part), count=count)


def decoder_score(modality: Modality, count: int) -> float:
    """Share of held-out captions that the package's decoder draws all right from its own text encoder.

    The weights are frozen: what ``pocket measure`` recorded of at least ``count`` captions stands.
    """
    file = weights_root() / modality.value / QUALITY
    known = json.loads(file.read_text()).get("measured", {}) if file.is_file() else {}
    found = known if known.get("items", 0) >= count else measure(modality, count=count)
    return float(found["all_right"])


@torch.no_grad()
def measure(
    modality: Modality, root: Path | None = None, count: int = 96, batch: int = 25, seed: int = 0
) -> dict[str, float]:
    """Share of ``count`` held-out captions whose sample has each attribute, and all attributes, right."""
    from nextgpt_pl.pocket.pretrain.captions import embedding_quality

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
    return {**scores, **embedding_quality(decoder.embed_captions, [modality])}


def _share(results: list[tuple[Scene, dict[str, bool]]], name: str | None) -> float:
    right = [all(found.values()) if name is None else found[name] for _, found in results]
    return sum(right) / max(1, len(right))
