"""Captioned pairs of the pocket world: captions and rendered media of scenes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from nextgpt_pl.modality import Modality
from nextgpt_pl.pocket.world import grammar, render, sensed_words, talk
from nextgpt_pl.pocket.world.attributes import attributes
from nextgpt_pl.pocket.world.scenes import SAMPLE_RATE, VIDEO_FPS, Split, item_rng, item_scene
from nextgpt_pl.pocket.world.sensed import SENSED, sensed_item
from nextgpt_pl.pocket.world.sensors import Reading
from nextgpt_pl.samples import CaptionedPair, Media


def rendered(modality: Modality, renderer: Callable[[], np.ndarray]) -> Media:
    """A medium of the pocket world, at its rates."""
    sample_rate = SAMPLE_RATE if modality is Modality.AUDIO else None
    return Media(modality, renderer, sample_rate, VIDEO_FPS if modality is Modality.VIDEO else None)


def captioned_pair(split: Split, modality: Modality, index: int, seed: int = 0) -> CaptionedPair:
    """Item ``index`` of a split: caption, instruction, attributes, and the medium, rendered when it is read.

    Items of modalities that sensors read have no instruction, since no model makes them.
    """
    if modality in SENSED:
        return _sensed_pair(split, modality, index, seed)
    scene = item_scene(split, modality, index, seed)
    words = item_rng(split, modality, index, seed, "words")
    caption = grammar.caption(scene, words)
    return CaptionedPair(
        key=f"pocket-{seed}/{split}/{modality}/{index}",
        modality=modality,
        caption=caption,
        media=rendered(modality, render.Renderer(scene, split, modality, index, seed)),
        instruction=grammar.request(modality, caption, words),
        question=grammar.question(modality, words),
        # in fixed wording, so that word order assigns attributes to objects
        description=talk.sentence(grammar.plain_caption(scene)),
        attributes=attributes(scene),
    )


def _sensed_pair(split: Split, modality: Modality, index: int, seed: int) -> CaptionedPair:
    scene = sensed_item(split, modality, index, seed)
    words = item_rng(split, modality, index, seed, "words")
    key = f"pocket-{seed}/{split}/{modality}/{index}"
    return CaptionedPair(
        key=key,
        modality=modality,
        caption=sensed_words.caption(scene, words),
        media=Media(modality, Reading(scene, key)),
        question=sensed_words.question(modality, words),
        description=talk.sentence(sensed_words.caption(scene)),
        attributes=attributes(scene),
    )
