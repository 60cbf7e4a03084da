"""Classifies images and videos of the pocket world by comparing masks with rendered templates."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np

from nextgpt_pl.pocket.world.render import shape_mask
from nextgpt_pl.pocket.world.scenes import (
    BACKGROUNDS,
    COLOURS,
    IMAGE_SIZE,
    POSITIONS,
    ROUND_SHAPES,
    SHAPES,
    SIZES,
    ImageScene,
    Thing,
    VideoScene,
)

_MIN_CONTRAST = 40.0  # minimum distance from the background of an object's pixel, in levels
_MIN_AREA = 18.0  # minimum area of an object in pixels
_MAX_AREA = 1000.0  # maximum area of an object in pixels
_MIN_OVERLAP = 0.5  # with the best template; noise and fragments are below
_MAX_OFFSET = 8.0  # maximum distance of an object from its position in pixels
_BETWEEN_SIZES = float(np.mean(list(SIZES.values())))
_CENTER = IMAGE_SIZE / 2


@dataclass(frozen=True)
class _Blob:
    """An object as a soft mask ``(64, 64)``, with its centroid."""

    mask: np.ndarray
    colour: str
    x: float
    y: float

    @property
    def area(self) -> float:
        return float(self.mask.sum())


def _nearest(colour: np.ndarray, palette: dict[str, tuple[int, int, int]]) -> str:
    return min(palette, key=lambda name: float(np.square(colour - np.array(palette[name])).sum()))


def _background(picture: np.ndarray) -> np.ndarray:
    border = np.concatenate([picture[:2].reshape(-1, 3), picture[-2:].reshape(-1, 3), picture[:, :2].reshape(-1, 3)])
    return np.median(border, axis=0)


def _near(mask: np.ndarray) -> np.ndarray:
    """Dilate a mask by two pixels; everything else is background noise."""
    dilated = np.pad(mask, 2)
    for axis in (0, 1):
        dilated = np.logical_or.reduce([np.roll(dilated, step, axis) for step in range(-2, 3)])
    return dilated[2:-2, 2:-2]


def _blob(picture: np.ndarray, background: np.ndarray, window: np.ndarray | None = None) -> _Blob | None:
    """The object within a window (by default the full image); ``None`` if there is none."""
    distance = np.sqrt(np.square(picture - background).sum(-1))
    if window is not None:
        distance = distance * window
    seen = distance > _MIN_CONTRAST
    if seen.sum() < _MIN_AREA:
        return None
    # the core of the object, away from blurred edges, has its colour
    core = distance >= 0.8 * np.percentile(distance[seen], 80)
    colour = np.median(picture[core], axis=0)
    contrast = max(_MIN_CONTRAST, float(np.sqrt(np.square(colour - background).sum())))
    mask = np.clip((distance / contrast - 0.15) / 0.75, 0, 1) * _near(distance > max(_MIN_CONTRAST, 0.3 * contrast))
    area = mask.sum()
    if not _MIN_AREA <= area <= _MAX_AREA:
        return None
    ys, xs = np.mgrid[:IMAGE_SIZE, :IMAGE_SIZE] + 0.5
    return _Blob(mask, _nearest(colour, COLOURS), float((mask * xs).sum() / area), float((mask * ys).sum() / area))


@cache
def _unit(shape: str, angle: float) -> tuple[float, float, float]:
    """Area per squared extent, and the centroid's offset per extent, of a shape."""
    mask = shape_mask(shape, _CENTER, _CENTER, 20.0, angle)
    ys, xs = np.mgrid[:IMAGE_SIZE, :IMAGE_SIZE] + 0.5
    area = mask.sum()
    x, y = (mask * xs).sum() / area - _CENTER, (mask * ys).sum() / area - _CENTER
    return float(area / 400), float(x / 20), float(y / 20)


@lru_cache(maxsize=50_000)
def _template(shape: str, extent: float, angle: float, fraction_x: float, fraction_y: float) -> np.ndarray:
    return shape_mask(shape, _CENTER + fraction_x, _CENTER + fraction_y, extent, angle)


def _overlap(blob: _Blob, shape: str, angle: float = 0.0) -> tuple[float, float]:
    """Soft intersection over union with the template of the blob's area and position, and its extent."""
    per_square, offset_x, offset_y = _unit(shape, angle)
    extent = float(np.sqrt(blob.area / per_square))
    x, y = blob.x - offset_x * extent - _CENTER, blob.y - offset_y * extent - _CENTER
    whole_x, whole_y = int(np.floor(x)), int(np.floor(y))
    fractions = round((x - whole_x) * 4) / 4, round((y - whole_y) * 4) / 4
    template = np.roll(_template(shape, round(extent * 2) / 2, angle, *fractions), (whole_y, whole_x), (0, 1))
    return float(np.minimum(blob.mask, template).sum() / np.maximum(blob.mask, template).sum()), extent


def _size(extent: float) -> str:
    return "small" if extent < _BETWEEN_SIZES else "large"


def _thing(blob: _Blob, position: str) -> Thing | None:
    scores = {shape: _overlap(blob, shape) for shape in SHAPES}
    shape = max(scores, key=lambda s: scores[s][0])
    overlap, extent = scores[shape]
    return Thing(shape, blob.colour, _size(extent), position) if overlap >= _MIN_OVERLAP else None


def _halves(blob: _Blob) -> tuple[tuple[str, np.ndarray], ...]:
    """Positions of the objects with a window for each: one position, or two that are separated by an empty middle."""
    half = IMAGE_SIZE // 2
    for axis, names in ((0, ("left", "right")), (1, ("top", "bottom"))):
        profile = blob.mask.sum(axis=axis)
        sides = profile[: half - 1].sum(), profile[half + 1 :].sum()
        if min(sides) > _MIN_AREA and profile[half - 1 : half + 1].sum() < 1.0:
            low = np.zeros((IMAGE_SIZE, IMAGE_SIZE))
            low[(slice(None), slice(None, half)) if axis == 0 else slice(None, half)] = 1
            return (names[0], low), (names[1], 1 - low)
    position = min(POSITIONS, key=lambda n: np.hypot(POSITIONS[n][0] - blob.x, POSITIONS[n][1] - blob.y))
    return ((position, np.ones((IMAGE_SIZE, IMAGE_SIZE))),)


def judge_image(image: np.ndarray) -> ImageScene | None:
    """The one or two objects of an image ``(64, 64, 3)`` uint8 and its background; ``None`` if unrecognisable."""
    picture = image.astype(float)
    background = _background(picture)
    all_objects = _blob(picture, background)
    if all_objects is None:
        return None
    things = []
    for place, window in _halves(all_objects):
        blob = _blob(picture, background, window)
        if blob is None or np.hypot(POSITIONS[place][0] - blob.x, POSITIONS[place][1] - blob.y) > _MAX_OFFSET:
            return None
        thing = _thing(blob, place)
        if thing is None:
            return None
        things.append(thing)
    return ImageScene(tuple(things), _nearest(background, BACKGROUNDS))


def _motion(blobs: list[_Blob]) -> str | None:
    xs, ys = np.array([b.x for b in blobs]), np.array([b.y for b in blobs])
    dx, dy = xs[-1] - xs[0], ys[-1] - ys[0]
    first, last = (np.mean([b.area for b in part]) for part in (blobs[:2], blobs[-2:]))
    if last > 2 * first:
        return "grow"
    if abs(dx) > 14 and abs(dx) > 2 * np.ptp(ys):
        return "right" if dx > 0 else "left"
    if abs(dy) > 14 and abs(dy) > 2 * np.ptp(xs):
        return "down" if dy > 0 else "up"
    if np.ptp(ys) > 10 and abs(dy) < 8:
        return "bounce"
    return "spin" if max(np.ptp(xs), np.ptp(ys)) < 8 else None


def _spinning_shape(blobs: list[_Blob]) -> tuple[str, float] | None:
    """The rotating shape and its overlap; ``None`` if no shape rotates."""
    angles = np.arange(0, 180, 22.5)
    best: dict[str, tuple[float, float]] = {}
    for shape in (s for s in SHAPES if s not in ROUND_SHAPES):
        table = np.array([[_overlap(blob, shape, float(a))[0] for a in angles] for blob in blobs])
        turning = float(table.max(axis=1).mean())
        best[shape] = turning, turning - float(table.mean(axis=0).max())
    shape = max(best, key=lambda s: best[s][0])
    overlap, gain = best[shape]
    return (shape, overlap) if gain > 0.02 else None


def judge_video(frames: np.ndarray) -> VideoScene | None:
    """The moving object of a video ``(T, 64, 64, 3)`` uint8 and its background; ``None`` if unrecognisable."""
    pictures = frames.astype(float)
    background = np.median([_background(p) for p in pictures], axis=0)
    candidates = [_blob(p, background) for p in pictures]
    blobs = [b for b in candidates if b is not None]
    if len(blobs) < len(pictures) or (motion := _motion(blobs)) is None:
        return None
    if motion == "spin":
        spinning = _spinning_shape(blobs)
        if spinning is None:
            return None
        shape, overlap = spinning
    else:
        means = {s: float(np.mean([_overlap(b, s)[0] for b in blobs])) for s in SHAPES}
        shape = max(means, key=lambda s: means[s])
        overlap = means[shape]
    if overlap < _MIN_OVERLAP:
        return None
    colours = [b.colour for b in blobs]
    extent = float(np.median([_overlap(b, shape)[1] for b in blobs]))
    size = None if motion == "grow" else _size(extent)
    return VideoScene(shape, max(set(colours), key=colours.count), size, _nearest(background, BACKGROUNDS), motion)
