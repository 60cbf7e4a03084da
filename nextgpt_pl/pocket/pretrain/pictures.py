"""The pictures that pre-training sees: the world's own, with two objects more often than it has them."""

from __future__ import annotations

from random import Random

from nextgpt_pl.modality import Modality
from nextgpt_pl.pocket.world.scenes import ImageScene, draw_scene

TWO_OBJECTS = 0.65  # share: which attribute belongs to which object is what takes longest to learn


def draw_picture(rng: Random) -> ImageScene:
    """A picture of the training split."""
    wanted = 2 if rng.random() < TWO_OBJECTS else 1
    while True:
        scene = draw_scene(Modality.IMAGE, rng)
        if isinstance(scene, ImageScene) and len(scene.things) == wanted:
            return scene
