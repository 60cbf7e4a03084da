"""Rendering of pocket scenes with NumPy; picklable, so that data-loader workers can render.

Small jitter of position, size and pitch prevents networks from memorising one template per combination. It is far below
the distance between two attribute values.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from random import Random

import numpy as np

from nextgpt_pl.modality import Modality
from nextgpt_pl.pocket.world.scenes import (
    AUDIO_SECONDS,
    BACKGROUNDS,
    COLOURS,
    HIGHEST_GLIDE,
    IMAGE_SIZE,
    PITCHES,
    POSITIONS,
    SAMPLE_RATE,
    SIZES,
    VIDEO_FRAMES,
    AudioScene,
    ImageScene,
    Scene,
    Split,
    VideoScene,
    item_rng,
)

VERSION = 1  # raise it when a scene is rendered differently; see nextgpt_pl.features.keys
_OVERSAMPLE = 3  # coverage is sampled on a 3 x 3 grid per pixel
_SHIFT, _STRETCH = 0.5, 0.25  # jitter of position and of half extent in pixels, which small decoders can learn
_RING_HOLE = 0.55
_CROSS_ARM = 0.36
_STAR_INNER = 0.45
_REACH = 1.35  # of a shape's farthest corner, the triangle's, in extents


@dataclass(frozen=True)
class Renderer:
    """Renders one item when called; the arrays are those that :class:`~nextgpt_pl.samples.Media` describes."""

    scene: Scene
    split: Split
    modality: Modality
    index: int
    seed: int

    def __call__(self) -> np.ndarray:
        """Render the item; every call returns the same array."""
        return render(self.scene, item_rng(self.split, self.modality, self.index, self.seed, "render"))

    def content_key(self) -> str:
        """Identifies the array in caches: the scene, and the version of the rendering code."""
        return f"{self!r} {VERSION}"


def render(scene: Scene, rng: Random) -> np.ndarray:
    """The medium of a scene: ``(64, 64, 3)`` or ``(8, 64, 64, 3)`` uint8, or ``(32000,)`` float32."""
    if isinstance(scene, ImageScene):
        return render_image(scene, rng)
    if isinstance(scene, VideoScene):
        return render_video(scene, rng)
    return render_audio(scene, rng)


def _jitter(rng: Random, amount: float) -> float:
    return (2 * rng.random() - 1) * amount


def shape_mask(shape: str, cx: float, cy: float, extent: float, angle: float = 0.0) -> np.ndarray:
    """Coverage ``(64, 64)`` in [0, 1] of a shape centred at (cx, cy), ``extent`` pixels to each side.

    ``angle`` is in degrees, clockwise. All shapes have about the same extent, so size can be classified.
    """
    # pixels that the shape cannot reach are not sampled
    rows, columns = (_reached(center, extent) for center in (cy, cx))
    grid = (np.arange(IMAGE_SIZE * _OVERSAMPLE) + 0.5).reshape(IMAGE_SIZE, _OVERSAMPLE) / _OVERSAMPLE
    x, y = (grid[columns].reshape(1, -1) - cx) / extent, (grid[rows].reshape(-1, 1) - cy) / extent
    if angle:
        c, s = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
        x, y = c * x + s * y, -s * x + c * y
    mask = np.zeros((IMAGE_SIZE, IMAGE_SIZE))
    part = mask[rows, columns]
    part[:] = _INSIDE[shape](x, y).reshape(len(part), _OVERSAMPLE, -1, _OVERSAMPLE).mean(axis=(1, 3))
    return mask


def _reached(center: float, extent: float) -> slice:
    """Pixels along an axis within a shape's farthest corner."""
    first, stop = int(np.floor(center - _REACH * extent)), int(np.ceil(center + _REACH * extent))
    return slice(min(max(first, 0), IMAGE_SIZE - 1), min(max(stop, 1), IMAGE_SIZE))


def _in_triangle(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    # apex up, base at y = 0.87, sides through (0, -1) and (+-1, 0.87)
    return (y < 0.87) & (np.abs(x) < (y + 1) / 1.87)


def _in_star(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Five points: within each tenth of a turn the edge is the straight line from a tip to an inner corner."""
    tenth = np.pi / 5
    theta = np.abs((np.arctan2(x, -y) + tenth) % (2 * tenth) - tenth)
    rise, run = _STAR_INNER * np.sin(tenth), 1 - _STAR_INNER * np.cos(tenth)
    edge = rise / (run * np.sin(theta) + rise * np.cos(theta))
    return np.hypot(x, y) < edge


_INSIDE = {
    "circle": lambda x, y: x * x + y * y < 1,
    "square": lambda x, y: (np.abs(x) < 0.88) & (np.abs(y) < 0.88),
    "triangle": _in_triangle,
    "star": _in_star,
    "cross": lambda x, y: ((np.abs(x) < _CROSS_ARM) & (np.abs(y) < 1)) | ((np.abs(y) < _CROSS_ARM) & (np.abs(x) < 1)),
    "ring": lambda x, y: (x * x + y * y < 1) & (x * x + y * y > _RING_HOLE**2),
}


def _paint(canvas: np.ndarray, mask: np.ndarray, colour: str) -> np.ndarray:
    return canvas * (1 - mask[..., None]) + np.asarray(COLOURS[colour], float) * mask[..., None]


def _canvas(background: str) -> np.ndarray:
    return np.full((IMAGE_SIZE, IMAGE_SIZE, 3), BACKGROUNDS[background], float)


def _to_uint8(canvas: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(canvas), 0, 255).astype(np.uint8)


def render_image(scene: ImageScene, rng: Random) -> np.ndarray:
    """``(64, 64, 3)`` uint8."""
    canvas = _canvas(scene.background)
    for thing in scene.things:
        x, y = POSITIONS[thing.position]
        cx, cy = x + _jitter(rng, _SHIFT), y + _jitter(rng, _SHIFT)
        mask = shape_mask(thing.shape, cx, cy, SIZES[thing.size] + _jitter(rng, _STRETCH))
        canvas = _paint(canvas, mask, thing.colour)
    return _to_uint8(canvas)


def _path(motion: str, progress: float, extent: float) -> tuple[float, float, float, float]:
    """Centre x, y, half extent and angle in degrees at ``progress`` in [0, 1] of a video."""
    middle, reach = IMAGE_SIZE / 2, 16.0
    sweep = (2 * progress - 1) * reach
    if motion == "bounce":  # two hops above the floor
        hop = abs(np.sin(2 * np.pi * progress))
        return middle, middle + 16 - 30 * float(hop), extent, 0.0
    if motion == "grow":
        return middle, middle, 5.0 + 11.0 * progress, 0.0
    if motion == "spin":
        return middle, middle, extent, 157.5 * progress
    dx, dy = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}[motion]
    return middle + dx * sweep, middle + dy * sweep, extent, 0.0


def render_video(scene: VideoScene, rng: Random) -> np.ndarray:
    """``(8, 64, 64, 3)`` uint8."""
    extent = (SIZES[scene.size] if scene.size else 0.0) + _jitter(rng, _STRETCH)
    jitter_x, jitter_y = _jitter(rng, _SHIFT), _jitter(rng, _SHIFT)
    frames = []
    for frame in range(VIDEO_FRAMES):
        x, y, r, angle = _path(scene.motion, frame / (VIDEO_FRAMES - 1), extent)
        mask = shape_mask(scene.shape, x + jitter_x, y + jitter_y, r, angle)
        frames.append(_to_uint8(_paint(_canvas(scene.background), mask, scene.colour)))
    return np.stack(frames)


# The audio tables have more values than the world: WIDER lists those that only pre-training uses, so that decoders do
# not memorise the world's few combinations.
# relative frequency and amplitude of each partial
_PARTIALS: dict[str, tuple[tuple[float, float], ...]] = {
    "sine": ((1.0, 1.0),),
    "square wave": tuple((float(k), 1.0 / k) for k in (1, 3, 5, 7)),
    "bell": ((1.0, 1.0), (2.76, 0.6), (5.4, 0.35)),
    "pluck": tuple((float(k), 1.0 / k) for k in range(1, 7)),
    "octaves": ((1.0, 1.0), (2.0, 0.7), (4.0, 0.4)),
    "organ": ((1.0, 1.0), (2.0, 0.5), (3.0, 0.6), (4.0, 0.3)),
    "fifth": ((1.0, 1.0), (1.5, 0.7)),
    "gong": ((1.0, 1.0), (1.7, 0.6), (3.6, 0.4)),
    "glass": ((1.0, 1.0), (4.2, 0.5)),
    "reed": ((1.0, 1.0), (3.0, 0.6), (5.0, 0.5)),
}
_DECAY = {"bell": 0.9, "pluck": 0.45, "gong": 1.4, "glass": 0.6}  # seconds
_CENTRES = PITCHES | {"lowest": 140.0, "lower middle": 310.0, "upper middle": 740.0, "highest": 1600.0}  # hertz
_OCTAVES = {"rising": 1.0, "falling": -1.0, "climbing": 0.5, "sinking": -0.5}  # over the two seconds
_TREMOLO = {"tremolo": 5.0, "slow tremolo": 2.5}  # hertz
_BEEPS = {"beeps": 2, "four beeps": 4}
WIDER: dict[str, tuple[str, ...]] = {
    "timbre": ("octaves", "organ", "fifth", "gong", "glass", "reed"),
    "pitch": ("lowest", "lower middle", "upper middle", "highest"),
    "pattern": ("climbing", "sinking", "slow tremolo", "four beeps"),
}
_NOISE_PARTIALS = 64
_NOISE_WIDTH = 0.35  # of the centre frequency, to each side
_LOUDNESS = 0.12  # root mean square over the two seconds, before decay


def between(first: str, second: str, share: float) -> str:
    """The name of an interpolated attribute value, ``share`` of the way to the second: ``steady~tremolo~0.30``."""
    return f"{first}~{second}~{share:.2f}"


def parts_of_value(value: str) -> list[tuple[str, float]]:
    """The named values of an interpolated attribute value with their shares; a named value has share 1."""
    first, *rest = value.split("~")
    return [(first, 1 - float(rest[1])), (rest[0], float(rest[1]))] if rest else [(first, 1.0)]


def pitches() -> tuple[str, ...]:
    """Names of all pitches, including those of pre-training, in ascending order."""
    return tuple(sorted(_CENTRES, key=lambda name: _CENTRES[name]))


def _glide(pattern: str, t: np.ndarray) -> np.ndarray:
    """Frequency relative to the centre over time: some octaves up or down, geometrically."""
    octaves = sum(share * _OCTAVES.get(name, 0.0) for name, share in parts_of_value(pattern))
    return np.exp2(octaves * (t / AUDIO_SECONDS - 0.5))


def _envelope(timbre: str, pattern: str, t: np.ndarray) -> np.ndarray:
    """Loudness over time of one named timbre in one named pattern."""
    period = AUDIO_SECONDS / _BEEPS.get(pattern, 1)
    onset_age = t % period
    envelope = np.minimum(1.0, onset_age / 0.01)
    if timbre in _DECAY:
        envelope = envelope * np.exp(-onset_age / _DECAY[timbre])
    if pattern in _BEEPS:  # each beep is followed by silence of equal length
        envelope = envelope * np.clip((period / 2 - onset_age) / 0.02, 0, 1)
    if pattern in _TREMOLO:
        envelope = envelope * (0.5 + 0.5 * np.cos(2 * np.pi * _TREMOLO[pattern] * t))
    return envelope * np.minimum(1.0, (AUDIO_SECONDS - t) / 0.02)


def _tone(timbre: str, centre: float, phase: np.ndarray, rng: Random) -> np.ndarray:
    """One named timbre over time, with constant loudness."""
    if timbre == "noise":  # a band of random partials, reproducible on every machine
        partials = tuple((1 + _jitter(rng, _NOISE_WIDTH), 1.0) for _ in range(_NOISE_PARTIALS))
    else:
        partials = tuple((k, a) for k, a in _PARTIALS[timbre] if k * centre * HIGHEST_GLIDE < SAMPLE_RATE / 2)
    wave = sum(a * np.sin(k * phase + 2 * np.pi * rng.random()) for k, a in partials)
    return wave * (_LOUDNESS / np.sqrt(np.mean(np.square(wave))))


def render_audio(scene: AudioScene, rng: Random) -> np.ndarray:
    """``(32000,)`` float32 in [-1, 1], 16 kHz, on the grid of 16-bit samples.

    For interpolated attribute values, pitch and glide are interpolated, and waves and envelopes are mixed.
    """
    t = np.arange(int(SAMPLE_RATE * AUDIO_SECONDS)) / SAMPLE_RATE
    centre = prod(_CENTRES[name] ** share for name, share in parts_of_value(scene.pitch))
    centre *= float(np.exp2(_jitter(rng, 0.06)))
    phase = 2 * np.pi * np.cumsum(centre * _glide(scene.pattern, t)) / SAMPLE_RATE
    wave = np.zeros_like(t)
    for timbre, loudness in parts_of_value(scene.timbre):
        tone = _tone(timbre, centre, phase, rng)
        envelopes = (share * _envelope(timbre, name, t) for name, share in parts_of_value(scene.pattern))
        wave = wave + loudness * tone * sum(envelopes)
    return (np.rint(np.clip(wave, -1, 1) * 32767) / 32767).astype(np.float32)
