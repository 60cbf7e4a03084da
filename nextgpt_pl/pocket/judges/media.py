"""Exact judges: classify a scene from pixels or samples, independent of trained networks."""

from __future__ import annotations

from dataclasses import asdict, fields

import numpy as np

from nextgpt_pl.modality import Modality
from nextgpt_pl.pocket.judges.audio import judge_audio
from nextgpt_pl.pocket.judges.picture import judge_image, judge_video
from nextgpt_pl.pocket.world.scenes import Answer, ImageScene, Scene
from nextgpt_pl.pocket.world.sensed import AnyScene, DepthScene, ThermalScene


def judge(media: np.ndarray, modality: Modality) -> Scene | None:
    """The scene of a medium; ``None`` if it is not recognisable.

    Args:
        media: image ``(64, 64, 3)`` or video ``(8, 64, 64, 3)`` uint8, or audio ``(n,)`` float at 16 kHz.
        modality: modality of the medium.

    """
    if modality is Modality.IMAGE:
        return judge_image(media)
    return judge_video(media) if modality is Modality.VIDEO else judge_audio(media)


def flat(scene: AnyScene | Answer) -> dict[str, object]:
    """Attributes by name; for scenes with objects, tuples over them."""
    if not isinstance(scene, (ImageScene, DepthScene, ThermalScene)):
        return asdict(scene)
    attributes: dict[str, object] = {"background": scene.background} if isinstance(scene, ImageScene) else {}
    attributes["objects"] = len(scene.things)
    for field in fields(scene.things[0]):
        attributes[field.name] = tuple(getattr(thing, field.name) for thing in scene.things)
    return attributes


def matches(actual: AnyScene | Answer | None, expected: AnyScene | Answer) -> dict[str, bool]:
    """Per attribute of ``expected``, whether ``actual`` has it; all false if ``actual`` is ``None``."""
    expected_attributes = flat(expected)
    if actual is None or type(actual) is not type(expected):
        return dict.fromkeys(expected_attributes, False)
    actual_attributes = flat(actual)
    return {name: actual_attributes.get(name) == value for name, value in expected_attributes.items()}
