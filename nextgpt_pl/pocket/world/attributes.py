"""Scenes and answers as plain dictionaries, and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from nextgpt_pl.pocket.world.scenes import Answer, AudioScene, ImageScene, Thing, VideoScene
from nextgpt_pl.pocket.world.sensed import AnyScene, Body, DepthScene, MotionScene, Solid, ThermalScene


def attributes(scene: AnyScene | Answer) -> Mapping[str, Any]:
    """The scene, or the answer, as a plain dictionary, for logs and judges."""
    return asdict(scene)


def scene_of(attributes: Mapping[str, Any]) -> AnyScene | Answer:
    """The scene, or the answer, with these :func:`attributes`, also if they were read from JSON.

    Raises:
        ValueError: no kind of scene has these attributes.

    """
    names = set(attributes)
    try:
        if "things" in names:
            return _with_things(attributes)
        if "motion" in names:
            return (MotionScene if "steadiness" in names else VideoScene)(**attributes)
        return (Answer if "words" in names else AudioScene)(**attributes)
    except (KeyError, TypeError) as error:
        raise ValueError(f"no scene has the attributes {sorted(names)} ({error})") from error


def _with_things(attributes: Mapping[str, Any]) -> AnyScene:
    given = attributes["things"]
    if any("distance" in thing for thing in given):
        return DepthScene(tuple(Solid(**thing) for thing in given))
    if any("heat" in thing for thing in given):
        return ThermalScene(tuple(Body(**thing) for thing in given))
    return ImageScene(tuple(Thing(**thing) for thing in given), attributes["background"])
