"""Readings of sensed scenes, in the layouts of :class:`~nextgpt_pl.samples.Media`; picklable for workers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import numpy as np

from nextgpt_pl.pocket.world.render import shape_mask
from nextgpt_pl.pocket.world.scenes import IMAGE_SIZE, POSITIONS, SIZES
from nextgpt_pl.pocket.world.sensed import (
    DISTANCES,
    HEAT,
    ROOM,
    WALL,
    Body,
    MotionScene,
    SensedScene,
    Solid,
    ThermalScene,
)

VERSION = 2  # raise it when a scene is read differently; see nextgpt_pl.features.keys
FOCAL_TIMES_BASELINE = 0.12  # of the depth camera: disparities of the world span the range of the depth tower's inputs
GRAVITY = 9.81  # metres per second squared
RATE, SECONDS = 50, 5.0  # readings per second of the inertial sensor
_SHIFT, _STRETCH = 0.5, 0.25  # jitter in pixels, as of images
_RANGE, _WARMTH = 0.04, 0.02  # relative jitter of distance and temperature
_PATH = 3.2  # metres that an object moves
_TURN = np.deg2rad(157.5)  # of a spinning object, clockwise
_DURATION = {"slow": 3.9, "moderate": 2.5, "fast": 1.6}  # seconds from start to stop
_HOPS = {"slow": 2, "moderate": 3, "fast": 5}
_LANDING = 0.25  # seconds of each hop that the object is on the ground
_PACE, _SWAY = 0.14, 0.3  # relative jitter of durations, and of tremor
_NOISE = 0.05  # of both sensors, in metres per second squared and radians per second
#: amplitudes in metres per second squared, and in radians per second
_TREMOR = {"steady": (0.05, 0.01), "wobbling": (0.5, 0.13), "shaking": (1.5, 0.4)}
_DIRECTION = {"left": (-1.0, 0.0), "right": (1.0, 0.0), "up": (0.0, 1.0), "down": (0.0, -1.0)}


@dataclass(frozen=True)
class Reading:
    """Reads a scene with random jitter; hashable, so that its encoder features can be cached."""

    scene: SensedScene
    seed: str

    def __call__(self) -> np.ndarray:
        """The array; the same at every call."""
        return sense(self.scene, Random(self.seed))

    def content_key(self) -> str:
        """Identifies the array in caches: the scene, and the version of this code."""
        return f"{self!r} {VERSION}"


def sense(scene: SensedScene, rng: Random) -> np.ndarray:
    """The reading of a scene, float32.

    Depth ``(64, 64)`` is a disparity in metres, thermal ``(64, 64)`` is from 0 to 1, IMU ``(6, 250)`` are five seconds
    of accelerometer (metres per second squared) and gyroscope (radians per second). The sensor's axes point right, up
    and to the viewer; at rest the accelerometer reads gravity, upwards.
    """
    if isinstance(scene, MotionScene):
        return _inertia(scene, rng)
    if isinstance(scene, ThermalScene):
        return _plane(scene.things, [HEAT[t.heat] * (1 + _jitter(rng, _WARMTH)) for t in scene.things], ROOM, rng)
    distances = [DISTANCES[t.distance] * (1 + _jitter(rng, _RANGE)) for t in scene.things]
    return _plane(scene.things, [FOCAL_TIMES_BASELINE / d for d in distances], FOCAL_TIMES_BASELINE / WALL, rng)


def _jitter(rng: Random, amount: float) -> float:
    return (2 * rng.random() - 1) * amount


def _plane(things: Sequence[Solid | Body], levels: list[float], behind: float, rng: Random) -> np.ndarray:
    """Each object as a level over that of the background; soft edges mix both."""
    plane = np.full((IMAGE_SIZE, IMAGE_SIZE), behind)
    for thing, level in zip(things, levels, strict=True):
        x, y = (c + _jitter(rng, _SHIFT) for c in POSITIONS[thing.position])
        mask = shape_mask(thing.shape, x, y, SIZES[thing.size] + _jitter(rng, _STRETCH))
        plane = plane * (1 - mask) + level * mask
    return np.clip(plane, 0, 1).astype(np.float32)


def _inertia(scene: MotionScene, rng: Random) -> np.ndarray:
    t = np.arange(int(RATE * SECONDS)) / RATE
    readings = np.zeros((6, len(t)))
    readings[1] = GRAVITY
    if scene.motion == "bounce":
        readings[1] = _bouncing(_HOPS[scene.speed], t, rng)
    else:
        duration = _DURATION[scene.speed] * (1 + _jitter(rng, _PACE))
        u = (t - rng.random() * (SECONDS - duration)) / duration
        moving = (u > 0) & (u < 1)
        if scene.motion == "spin":
            eased = np.clip(u, 0, 1) ** 2 * (3 - 2 * np.clip(u, 0, 1))
            angle = _TURN * eased
            readings[0], readings[1] = -GRAVITY * np.sin(angle), GRAVITY * np.cos(angle)
            readings[5] = np.where(moving, -_TURN * 6 * u * (1 - u) / duration, 0.0)
        else:
            push = np.where(moving, _PATH / duration**2 * (6 - 12 * u), 0.0)
            for axis, sign in enumerate(_DIRECTION[scene.motion]):
                readings[axis] += sign * push
    for axis in range(6):
        readings[axis] += [_jitter(rng, _NOISE) for _ in t]
        hertz, phase = 6.0 + 3.0 * rng.random(), 2 * np.pi * rng.random()
        amplitude = _TREMOR[scene.steadiness][axis // 3] * (1 + _jitter(rng, _SWAY))
        readings[axis] += amplitude * np.sin(2 * np.pi * hertz * t + phase)
    return readings.astype(np.float32)


def _bouncing(hops: int, t: np.ndarray, rng: Random) -> np.ndarray:
    """Upward readings: nothing in flight, and gravity's missing share on the ground, more after longer hops."""
    share = _LANDING * hops / SECONDS
    phase = (t * hops / SECONDS + rng.random()) % 1
    return np.where(phase < share, GRAVITY / share, 0.0)
