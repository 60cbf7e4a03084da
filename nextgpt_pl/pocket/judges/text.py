"""Parses descriptions of scenes with the vocabulary of ``grammar.py``, without any trained network."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cache

from nextgpt_pl.modality import Modality
from nextgpt_pl.pocket.world import grammar
from nextgpt_pl.pocket.world.scenes import (
    OPTIONS,
    POSITIONS,
    Answer,
    AudioScene,
    ImageScene,
    Thing,
    VideoScene,
)
from nextgpt_pl.pocket.world.sensed import (
    DISTANCES,
    HEAT,
    SPEEDS,
    STEADINESS,
    AnyScene,
    Body,
    DepthScene,
    MotionScene,
    Solid,
    ThermalScene,
)
from nextgpt_pl.pocket.world.sensed_words import COMPARED
from nextgpt_pl.pocket.world.talk import modality_of

_RELATIONS = {
    "to the left of": ("left", "right"),
    "to the right of": ("right", "left"),
    "above": ("top", "bottom"),
    "below": ("bottom", "top"),
}
_PLACES = {name: (place, *grammar.SYNONYMS[name]) for name, place in grammar.PLACES.items()}


@cache
def _pattern(phrases: tuple[str, ...]) -> re.Pattern[str]:
    longest_first = sorted(phrases, key=len, reverse=True)
    return re.compile(r"\b(?:" + "|".join(re.escape(p) for p in longest_first) + r")\b")


def _find(text: str, words: Mapping[str, tuple[str, ...]]) -> list[tuple[int, str]]:
    """All words of a table that occur, as (position, canonical word), in order."""
    meaning = {phrase: word for word, phrases in words.items() for phrase in phrases}
    return [(m.start(), meaning[m.group()]) for m in _pattern(tuple(meaning)).finditer(text)]


def _only(text: str, words: Mapping[str, tuple[str, ...]]) -> str | None:
    """The only word of a table that the text contains; ``None`` if it contains none or several."""
    words_in_text = {word for _, word in _find(text, words)}
    return words_in_text.pop() if len(words_in_text) == 1 else None


_SHAPES, _COLOURS, _SIZES, _BACKGROUNDS = (
    {word: (word, *grammar.SYNONYMS.get(word, ())) for word in OPTIONS[name]}
    for name in ("shape", "colour", "size", "background")
)
_DISTANCES, _HEAT, _SPEEDS, _STEADINESS, _COMPARED = (
    {word: (word,) for word in words} for words in (DISTANCES, HEAT, SPEEDS, STEADINESS, COMPARED)
)
_TIMBRES, _PITCHES, _PATTERNS = grammar.TIMBRE_WORDS, grammar.PITCH_WORDS, grammar.PATTERN_WORDS


def _before(positions: list[tuple[int, str]], start: int, end: int) -> str | None:
    inside = [word for position, word in positions if start <= position < end]
    return inside[-1] if inside else None


def _read_things(text: str, **tables: Mapping[str, tuple[str, ...]]) -> list[dict[str, str]] | None:
    """One or two objects with shape, position, and a word of each table before the shape, in order of position."""
    shapes, places = _find(text, _SHAPES), _find(text, _PLACES)
    if not 1 <= len(shapes) <= 2:
        return None
    found = {name: _find(text, words) for name, words in tables.items()}
    related = next((pair for phrase, pair in _RELATIONS.items() if phrase in text), None)
    things, start = [], 0
    for index, (end, shape) in enumerate(shapes):
        stop = shapes[index + 1][0] if index + 1 < len(shapes) else len(text)
        place = related[index] if related and len(shapes) == 2 else _before(places, end, stop)
        thing = {"shape": shape, "position": place} | {name: _before(w, start, end) for name, w in found.items()}
        things.append({name: word for name, word in thing.items() if word is not None})
        if len(things[-1]) < len(thing):
            return None
        start = end
    order = tuple(POSITIONS)
    return sorted(things, key=lambda thing: order.index(thing["position"]))


def _read_image(text: str) -> ImageScene | None:
    background, things = _only(text, _BACKGROUNDS), _read_things(text, colour=_COLOURS, size=_SIZES)
    if background is None or things is None:
        return None
    return ImageScene(tuple(Thing(**thing) for thing in things), background)


def _read_depth(text: str) -> DepthScene | None:
    things = _read_things(text, distance=_DISTANCES, size=_SIZES)
    return None if things is None else DepthScene(tuple(Solid(**thing) for thing in things))


def _read_thermal(text: str) -> ThermalScene | None:
    things = _read_things(text, heat=_HEAT, size=_SIZES)
    return None if things is None else ThermalScene(tuple(Body(**thing) for thing in things))


def _read_motion(text: str) -> MotionScene | None:
    motion, speed, steadiness = (_only(text, words) for words in (grammar.MOTION_WORDS, _SPEEDS, _STEADINESS))
    if motion is None or speed is None or steadiness is None:
        return None
    return MotionScene(motion, speed, steadiness)


def _read_video(text: str) -> VideoScene | None:
    motion, background = _only(text, grammar.MOTION_WORDS), _only(text, _BACKGROUNDS)
    colour = _only(text, _COLOURS)
    rest = text
    for phrase in grammar.MOTION_WORDS.get(motion or "", ()):
        rest = rest.replace(phrase, "")  # "becoming larger" is not a size
    shape, sizes = _only(rest, _SHAPES), {size for _, size in _find(rest, _SIZES)}
    size = sizes.pop() if len(sizes) == 1 else None
    if motion is None or background is None or colour is None or shape is None or (size is None) != (motion == "grow"):
        return None
    return VideoScene(shape, colour, size, background, motion)


def _read_audio(text: str) -> AudioScene | None:
    pattern = _only(text, _PATTERNS)
    for phrase in _PATTERNS.get(pattern or "", ()):
        text = text.replace(phrase, "")  # "at a constant pitch" is not a pitch
    timbre, pitch = _only(text, _TIMBRES), _only(text, _PITCHES)
    if timbre is None or pitch is None or pattern is None:
        return None
    return AudioScene(timbre, pitch, pattern)


_TABLES = (
    *(_SHAPES, _COLOURS, _SIZES, _BACKGROUNDS, _PLACES, grammar.MOTION_WORDS, _TIMBRES, _PITCHES, _PATTERNS),
    *(_DISTANCES, _HEAT, _SPEEDS, _STEADINESS, _COMPARED),
)
_READ: dict[Modality, Callable[[str], AnyScene | None]] = {
    Modality.IMAGE: _read_image,
    Modality.VIDEO: _read_video,
    Modality.AUDIO: _read_audio,
    Modality.DEPTH: _read_depth,
    Modality.THERMAL: _read_thermal,
    Modality.IMU: _read_motion,
}


def judge_text(text: str, modality: Modality) -> AnyScene | None:
    """The scene that a text describes; ``None`` if an attribute is missing or ambiguous."""
    return _READ[modality](text.lower())


def named(text: str) -> set[str]:
    """All attribute values that a text names."""
    return {word for table in _TABLES for _, word in _find(text.lower(), table)}


def judge_said(text: str, expected: AnyScene | Answer) -> AnyScene | Answer | None:
    """Parse a text that should describe a scene or give an answer.

    The expected answer is returned if the text names the same attributes; an answer without attributes must be equal
    to the text. Otherwise ``None`` is returned.
    """
    if not isinstance(expected, Answer):
        return judge_text(text, modality_of(expected))
    attributes = named(expected.words)
    same_words = text.lower().strip() == expected.words.lower()
    return expected if named(text) == attributes and (attributes or same_words) else None
