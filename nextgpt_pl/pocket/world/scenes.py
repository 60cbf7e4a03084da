"""The pocket world: its scenes, the held-out scenes, and the items of a split by index.

A seed and an index determine an item on every machine: all random choices use :class:`random.Random`, whose
``random()`` stream is fixed by the language. A scene is *held out* by its combination of attributes, not by wording,
jitter or index, so no held-out combination occurs in training.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Literal, TypeVar

from nextgpt_pl.modality import Modality

SHAPES = ("circle", "square", "triangle", "star", "cross", "ring")
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (220, 30, 30),
    "orange": (255, 140, 0),
    "yellow": (245, 225, 40),
    "green": (30, 150, 60),
    "cyan": (60, 205, 220),
    "blue": (30, 60, 215),
    "purple": (130, 40, 170),
    "pink": (250, 130, 190),
}
BACKGROUNDS: dict[str, tuple[int, int, int]] = {"white": (250, 250, 250), "gray": (128, 128, 128), "black": (8, 8, 8)}
SIZES: dict[str, float] = {"small": 8.5, "large": 13.0}  # half extent in pixels
POSITIONS: dict[str, tuple[float, float]] = {  # centre (x, y) in pixels, y pointing down
    "center": (32, 32),
    "left": (15, 32),
    "right": (49, 32),
    "top": (32, 15),
    "bottom": (32, 49),
}
OPPOSITE_POSITIONS = (("left", "right"), ("top", "bottom"))  # two large objects do not overlap there
MOTIONS = ("left", "right", "up", "down", "grow", "spin", "bounce")
ROUND_SHAPES = ("circle", "ring")  # rotation is not visible
TIMBRES = ("sine", "square wave", "bell", "noise", "pluck")
PITCHES: dict[str, float] = {"low": 200.0, "medium": 480.0, "high": 1150.0}  # centre frequency in hertz
HIGHEST_GLIDE = 1.42  # factor over the centre, about half an octave; partials above the Nyquist frequency are omitted
PATTERNS = ("steady", "rising", "falling", "beeps", "tremolo")
OPTIONS: dict[str, tuple[str, ...]] = {  # all values of each attribute
    "shape": SHAPES,
    "colour": tuple(COLOURS),
    "size": tuple(SIZES),
    "position": tuple(POSITIONS),
    "background": tuple(BACKGROUNDS),
    "motion": MOTIONS,
    "timbre": TIMBRES,
    "pitch": tuple(PITCHES),
    "pattern": PATTERNS,
}

IMAGE_SIZE = 64
VIDEO_FRAMES = 8
VIDEO_FPS = 4.0
SAMPLE_RATE = 16_000
AUDIO_SECONDS = 2.0

Split = Literal["train", "heldout"]
HELDOUT_SHARE = 0.12
TWO_OBJECT_SHARE = 0.4

T = TypeVar("T")
S = TypeVar("S")


@dataclass(frozen=True)
class Thing:
    """One object of an image."""

    shape: str
    colour: str
    size: str
    position: str


@dataclass(frozen=True)
class ImageScene:
    """One or two objects on a plain background; two are always at opposite positions, left or top first."""

    things: tuple[Thing, ...]
    background: str


@dataclass(frozen=True)
class VideoScene:
    """One moving object. ``size`` is ``None`` where the motion is growing."""

    shape: str
    colour: str
    size: str | None
    background: str
    motion: str


@dataclass(frozen=True)
class AudioScene:
    """Audio of two seconds."""

    timbre: str
    pitch: str
    pattern: str


Scene = ImageScene | VideoScene | AudioScene


@dataclass(frozen=True)
class Answer:
    """The expected text of a reply that neither describes nor shows a scene."""

    words: str


def pick(rng: Random, options: Sequence[T]) -> T:
    """A uniform choice that uses ``rng.random()`` only, whose stream is the same in all Python versions."""
    return options[int(rng.random() * len(options))]


def changed(item: S, name: str, rng: Random) -> S:
    """A scene or an object with another random value of the attribute ``name``."""
    others = tuple(option for option in OPTIONS[name] if option != getattr(item, name))
    return replace(item, **{name: pick(rng, others)})  # type: ignore[type-var]


def is_heldout(scene: Scene) -> bool:
    """Whether this combination of attributes is kept out of every training set.

    There are only 75 audio scenes, so a Latin square holds out one pattern per timbre and pitch. Of the many images and
    videos, a hash holds out the share :data:`HELDOUT_SHARE`.
    """
    if isinstance(scene, AudioScene):
        timbre, pitch = TIMBRES.index(scene.timbre), tuple(PITCHES).index(scene.pitch)
        return (timbre + 2 * pitch + PATTERNS.index(scene.pattern)) % len(PATTERNS) == 0
    digest = hashlib.sha256(repr(scene).encode()).digest()
    return int.from_bytes(digest[:4], "big") / 2**32 < HELDOUT_SHARE


def told_apart(things: Sequence[Thing]) -> bool:
    """Whether all objects differ in shape or colour; equal objects would differ in position only."""
    return len({(thing.shape, thing.colour) for thing in things}) == len(things)


def _image_scene(rng: Random) -> ImageScene:
    background = pick(rng, tuple(BACKGROUNDS))
    if rng.random() >= TWO_OBJECT_SHARE:
        positions: tuple[str, ...] = (pick(rng, tuple(POSITIONS)),)
    else:
        positions = pick(rng, OPPOSITE_POSITIONS)
    while True:
        things = tuple(
            Thing(pick(rng, SHAPES), pick(rng, tuple(COLOURS)), pick(rng, tuple(SIZES)), position)
            for position in positions
        )
        if told_apart(things):
            return ImageScene(things, background)


def _video_scene(rng: Random) -> VideoScene:
    motion = pick(rng, MOTIONS)
    shapes = tuple(s for s in SHAPES if motion != "spin" or s not in ROUND_SHAPES)
    size = None if motion == "grow" else pick(rng, tuple(SIZES))
    return VideoScene(pick(rng, shapes), pick(rng, tuple(COLOURS)), size, pick(rng, tuple(BACKGROUNDS)), motion)


def _audio_scene(rng: Random) -> AudioScene:
    return AudioScene(pick(rng, TIMBRES), pick(rng, tuple(PITCHES)), pick(rng, PATTERNS))


_DRAW: dict[Modality, Callable[[Random], Scene]] = {
    Modality.IMAGE: _image_scene,
    Modality.VIDEO: _video_scene,
    Modality.AUDIO: _audio_scene,
}


def draw_scene(modality: Modality, rng: Random, split: Split = "train") -> Scene:
    """A random scene of the split.

    Raises:
        ValueError: ``split`` is not one of the two.

    """
    return drawn(lambda: _DRAW[modality](rng), is_heldout, split)


def drawn(draw: Callable[[], T], heldout: Callable[[T], bool], split: Split) -> T:
    """The first result of ``draw`` that is of the split; ``heldout`` says which of the two it is of.

    Raises:
        ValueError: ``split`` is not one of the two.

    """
    if split not in ("train", "heldout"):
        raise ValueError(f"split={split!r}: the pocket world has 'train' and 'heldout'")
    while True:
        scene = draw()
        if heldout(scene) == (split == "heldout"):
            return scene


def audio_scenes(split: Split) -> Iterator[AudioScene]:
    """All audio scenes of a split."""
    for timbre, pitch, pattern in itertools.product(TIMBRES, PITCHES, PATTERNS):
        scene = AudioScene(timbre, pitch, pattern)
        if is_heldout(scene) == (split == "heldout"):
            yield scene


def item_rng(split: Split, modality: Modality, index: int, seed: int, purpose: str) -> Random:
    """The random stream of one item; ``purpose`` keeps scene, wording and rendering independent of one another."""
    return Random(f"pocket/{seed}/{split}/{modality}/{index}/{purpose}")


def item_scene(split: Split, modality: Modality, index: int, seed: int = 0) -> Scene:
    """The scene of item ``index``."""
    return draw_scene(modality, item_rng(split, modality, index, seed, "scene"), split)
