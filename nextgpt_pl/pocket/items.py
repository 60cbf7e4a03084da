"""Captioned pairs of the pocket world: scenes with their words and their pixels or samples."""

from __future__ import annotations

from nextgpt_pl.modality import Modality
from nextgpt_pl.pocket import grammar, render
from nextgpt_pl.pocket.world import SAMPLE_RATE, VIDEO_FPS, Split, attributes, item_rng, item_scene
from nextgpt_pl.samples import CaptionedPair, Media


def captioned_pair(split: Split, modality: Modality, index: int, seed: int = 0) -> CaptionedPair:
    """Item ``index`` of a split: caption, instruction, attributes, and the medium, rendered when it is read."""
    scene = item_scene(split, modality, index, seed)
    words = item_rng(split, modality, index, seed, "words")
    caption = grammar.caption(scene, words)
    sample_rate, fps = None, None
    if modality is Modality.AUDIO:
        sample_rate = SAMPLE_RATE
    elif modality is Modality.VIDEO:
        fps = VIDEO_FPS
    return CaptionedPair(
        key=f"pocket-{seed}/{split}/{modality}/{index}",
        modality=modality,
        caption=caption,
        media=Media(modality, render.Renderer(scene, split, modality, index, seed), sample_rate, fps),
        instruction=grammar.request(modality, caption, words),
        question=grammar.question(modality, words),
        attributes=attributes(scene),
    )
