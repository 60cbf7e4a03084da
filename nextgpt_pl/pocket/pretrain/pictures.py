"""Images for pre-training, with two objects more often than in the world."""

from __future__ import annotations

from random import Random

from nextgpt_pl.modality import Modality
from nextgpt_pl.pocket.world.scenes import ImageScene, draw_scene

TWO_OBJECTS = 0.65  # share of images with two objects, whose attribute binding is learned most slowly


def draw_picture(rng: Random) -> ImageScene:
    """An image scene of the training split."""
    count = 2 if rng.random() < TWO_OBJECTS else 1
    while True:
        scene = draw_scene(Modality.IMAGE, rng)
        if isinstance(scene, ImageScene) and len(scene.things) == count:
            return scene
