"""Exact judges: they read a scene back from pixels or samples alone, independent of every trained network."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np

from nextgpt_pl.modality import Modality
from nextgpt_pl.pocket.judges.audio import judge_audio
from nextgpt_pl.pocket.judges.picture import judge_image, judge_video
from nextgpt_pl.pocket.world.scenes import Answer, ImageScene, Scene


def judge(media: np.ndarray, modality: Modality) -> Scene | None:
    """The scene that a medium shows, or ``None`` where nothing is recognisable.

    Args:
        media: image ``(64, 64, 3)`` or video ``(8, 64, 64, 3)`` uint8, or audio ``(n,)`` float at 16 kHz.
        modality: which of them.

    """
    if modality is Modality.IMAGE:
        return judge_image(media)
    return judge_video(media) if modality is Modality.VIDEO else judge_audio(media)


def flat(scene: Scene | Answer) -> dict[str, object]:
    """Attributes by name; of an image's objects, a tuple with each one's."""
    if not isinstance(scene, ImageScene):
        return asdict(scene)
    found: dict[str, object] = {"background": scene.background, "objects": len(scene.things)}
    for name in ("shape", "colour", "size", "position"):
        found[name] = tuple(getattr(thing, name) for thing in scene.things)
    return found


def matches(found: Scene | Answer | None, wanted: Scene | Answer) -> dict[str, bool]:
    """Per attribute of ``wanted``, whether ``found`` has it; all false where nothing was found."""
    expected = flat(wanted)
    if found is None or type(found) is not type(wanted):
        return dict.fromkeys(expected, False)
    actual = flat(found)
    return {name: actual.get(name) == value for name, value in expected.items()}


def all_right(found: Scene | None, wanted: Scene) -> bool:
    """Whether every attribute is right."""
    return all(matches(found, wanted).values())
