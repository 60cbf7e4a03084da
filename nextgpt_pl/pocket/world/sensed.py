"""Scenes that depth cameras, thermal cameras and inertial sensors read, and which of them are held out.

- Depth: one or two objects at a distance in front of a far wall. Colours are not visible.
- Thermal: one or two objects in a cold room. Colour tells heat: red, orange and yellow objects are hot, pink and green
  ones warm, and cyan, blue and purple ones cool. Colours themselves are not visible.
- IMU: the motion of an object of a video that carries the sensor in its middle. Its look is not visible, nor is its
  growing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import ClassVar

from nextgpt_pl.modality import Modality
from nextgpt_pl.pocket.world.scenes import (
    HELDOUT_SHARE,
    MOTIONS,
    OPPOSITE_POSITIONS,
    POSITIONS,
    SHAPES,
    SIZES,
    Scene,
    Split,
    drawn,
    item_rng,
    pick,
)

DISTANCES: dict[str, float] = {"close": 1.0, "midway": 1.6, "distant": 2.7}  # metres
WALL = 12.0  # metres
#: temperature of each heat, from 0 to 1
HEAT: dict[str, float] = {"hot": 1.0, "warm": 0.6, "cool": 0.35}
HEAT_OF_COLOUR: dict[str, str] = {
    **dict.fromkeys(("red", "orange", "yellow"), "hot"),
    **dict.fromkeys(("pink", "green"), "warm"),
    **dict.fromkeys(("cyan", "blue", "purple"), "cool"),
}
ROOM = 0.15  # temperature of the background
SENSED_MOTIONS = tuple(motion for motion in MOTIONS if motion != "grow")
SPEEDS = ("slow", "moderate", "fast")
STEADINESS = ("steady", "wobbling", "shaking")
_TWO_OBJECTS = 0.6  # share of depth and thermal scenes with two objects


@dataclass(frozen=True)
class Solid:
    """One object in front of a depth camera; its size is its extent in the image."""

    shape: str
    size: str
    position: str
    distance: str


@dataclass(frozen=True)
class Body:
    """One object before a thermal camera."""

    shape: str
    size: str
    position: str
    heat: str


@dataclass(frozen=True)
class DepthScene:
    """One or two objects of different shapes before a wall; two are at opposite positions, left or top first."""

    modality: ClassVar[Modality] = Modality.DEPTH
    things: tuple[Solid, ...]


@dataclass(frozen=True)
class ThermalScene:
    """One or two objects of different shapes in a cold room; two are at opposite positions, left or top first."""

    modality: ClassVar[Modality] = Modality.THERMAL
    things: tuple[Body, ...]


@dataclass(frozen=True)
class MotionScene:
    """Five seconds of an object's motion."""

    modality: ClassVar[Modality] = Modality.IMU
    motion: str
    speed: str
    steadiness: str


SensedScene = DepthScene | ThermalScene | MotionScene
AnyScene = Scene | SensedScene


def is_heldout(scene: SensedScene) -> bool:
    """Whether this combination of attributes is kept out of every training set.

    Of the 54 motions, six are held out: one of the nine speeds and steadinesses of each kind, for each kind another
    one. Of the many others, a hash holds out the share :data:`~nextgpt_pl.pocket.world.scenes.HELDOUT_SHARE`.
    """
    if isinstance(scene, MotionScene):
        number = 3 * SPEEDS.index(scene.speed) + STEADINESS.index(scene.steadiness)
        return number == 2 * SENSED_MOTIONS.index(scene.motion) % 9
    digest = hashlib.sha256(repr(scene).encode()).digest()
    return int.from_bytes(digest[:4], "big") / 2**32 < HELDOUT_SHARE


def _places(rng: Random) -> tuple[tuple[str, str], ...]:
    """A position for each object, with different shapes."""
    positions = pick(rng, OPPOSITE_POSITIONS) if rng.random() < _TWO_OBJECTS else (pick(rng, tuple(POSITIONS)),)
    shapes: list[str] = []
    for _ in positions:
        shapes.append(pick(rng, tuple(shape for shape in SHAPES if shape not in shapes)))
    return tuple(zip(positions, shapes, strict=True))


def _depth_scene(rng: Random) -> DepthScene:
    sizes, distances = tuple(SIZES), tuple(DISTANCES)
    return DepthScene(tuple(Solid(s, pick(rng, sizes), p, pick(rng, distances)) for p, s in _places(rng)))


def _thermal_scene(rng: Random) -> ThermalScene:
    sizes, heats = tuple(SIZES), tuple(HEAT)
    return ThermalScene(tuple(Body(s, pick(rng, sizes), p, pick(rng, heats)) for p, s in _places(rng)))


def _motion_scene(rng: Random) -> MotionScene:
    return MotionScene(pick(rng, SENSED_MOTIONS), pick(rng, SPEEDS), pick(rng, STEADINESS))


_DRAW: dict[Modality, Callable[[Random], SensedScene]] = {
    Modality.DEPTH: _depth_scene,
    Modality.THERMAL: _thermal_scene,
    Modality.IMU: _motion_scene,
}
#: modalities that sensors read
SENSED = tuple(_DRAW)


def draw_sensed(modality: Modality, rng: Random, split: Split = "train") -> SensedScene:
    """A random scene of the split.

    Raises:
        ValueError: ``split`` is not one of the two.

    """
    return drawn(lambda: _DRAW[modality](rng), is_heldout, split)


def sensed_item(split: Split, modality: Modality, index: int, seed: int = 0) -> SensedScene:
    """The scene of item ``index``."""
    return draw_sensed(modality, item_rng(split, modality, index, seed, "scene"), split)
