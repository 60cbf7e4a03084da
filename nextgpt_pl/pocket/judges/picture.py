"""Reads images and videos of the pocket world by comparing masks with rendered templates."""

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

_SEEN = 40.0  # distance from the background, in levels, from which a pixel belongs to an object
_LEAST_AREA = 18.0  # pixels; less is no object
_LARGEST_AREA = 1000.0  # more is no object either
_LEAST_OVERLAP = 0.5  # with the best template; noise and fragments stay below
_FAR = 8.0  # pixels from a position; farther is at no position
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


def _near(seen: np.ndarray) -> np.ndarray:
    """Within two pixels of what is seen: the rest is noise of the background."""
    grown = np.pad(seen, 2)
    for axis in (0, 1):
        grown = np.logical_or.reduce([np.roll(grown, step, axis) for step in range(-2, 3)])
    return grown[2:-2, 2:-2]


def _blob(picture: np.ndarray, background: np.ndarray, window: np.ndarray | None = None) -> _Blob | None:
    """The object within a window (all of the picture by default), or ``None``."""
    distance = np.sqrt(np.square(picture - background).sum(-1))
    if window is not None:
        distance = distance * window
    seen = distance > _SEEN
    if seen.sum() < _LEAST_AREA:
        return None
    # the core, away from smeared edges, has the object's own colour
    core = distance >= 0.8 * np.percentile(distance[seen], 80)
    colour = np.median(picture[core], axis=0)
    contrast = max(_SEEN, float(np.sqrt(np.square(colour - background).sum())))
    mask = np.clip((distance / contrast - 0.15) / 0.75, 0, 1) * _near(distance > max(_SEEN, 0.3 * contrast))
    area = mask.sum()
    if not _LEAST_AREA <= area <= _LARGEST_AREA:
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
    """Soft intersection over union with the template of the blob's own area and place, and its extent."""
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
    return Thing(shape, blob.colour, _size(extent), position) if overlap >= _LEAST_OVERLAP else None


def _halves(everything: _Blob) -> tuple[tuple[str, np.ndarray], ...]:
    """The places of objects and where to look for each: one place, or two with a gap through the middle between."""
    half = IMAGE_SIZE // 2
    for axis, places in ((0, ("left", "right")), (1, ("top", "bottom"))):
        profile = everything.mask.sum(axis=axis)
        sides = profile[: half - 1].sum(), profile[half + 1 :].sum()
        if min(sides) > _LEAST_AREA and profile[half - 1 : half + 1].sum() < 1.0:
            low = np.zeros((IMAGE_SIZE, IMAGE_SIZE))
            low[(slice(None), slice(None, half)) if axis == 0 else slice(None, half)] = 1
            return (places[0], low), (places[1], 1 - low)
    at = min(POSITIONS, key=lambda n: np.hypot(POSITIONS[n][0] - everything.x, POSITIONS[n][1] - everything.y))
    return ((at, np.ones((IMAGE_SIZE, IMAGE_SIZE))),)


def judge_image(image: np.ndarray) -> ImageScene | None:
    """The one or two objects of an image ``(64, 64, 3)`` uint8 and its background; ``None`` if unrecognisable."""
    picture = image.astype(float)
    background = _background(picture)
    everything = _blob(picture, background)
    if everything is None:
        return None
    things = []
    for place, window in _halves(everything):
        blob = _blob(picture, background, window)
        if blob is None or np.hypot(POSITIONS[place][0] - blob.x, POSITIONS[place][1] - blob.y) > _FAR:
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
    """The shape that turns; ``None`` where nothing does."""
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
    found = [_blob(p, background) for p in pictures]
    blobs = [b for b in found if b is not None]
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
    if overlap < _LEAST_OVERLAP:
        return None
    colours = [b.colour for b in blobs]
    extent = float(np.median([_overlap(b, shape)[1] for b in blobs]))
    size = None if motion == "grow" else _size(extent)
    return VideoScene(shape, max(set(colours), key=colours.count), size, _nearest(background, BACKGROUNDS), motion)
