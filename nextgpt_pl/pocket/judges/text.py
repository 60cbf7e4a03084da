"""Parses descriptions of scenes with the vocabulary of ``grammar.py``, without any trained network."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache

from nextgpt_pl.modality import Modality
from nextgpt_pl.pocket.world import grammar
from nextgpt_pl.pocket.world.scenes import (
    OPTIONS,
    POSITIONS,
    Answer,
    AudioScene,
    ImageScene,
    Scene,
    Thing,
    VideoScene,
)
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
_TIMBRES, _PITCHES, _PATTERNS = grammar.TIMBRE_WORDS, grammar.PITCH_WORDS, grammar.PATTERN_WORDS


def _before(positions: list[tuple[int, str]], start: int, end: int) -> str | None:
    inside = [word for position, word in positions if start <= position < end]
    return inside[-1] if inside else None


def _read_image(text: str) -> ImageScene | None:
    background = _only(text, _BACKGROUNDS)
    shapes = _find(text, _SHAPES)
    if background is None or not 1 <= len(shapes) <= 2:
        return None
    colours, sizes = _find(text, _COLOURS), _find(text, _SIZES)
    related = next((pair for phrase, pair in _RELATIONS.items() if phrase in text), None)
    places = _find(text, _PLACES)
    things, start = [], 0
    for index, (end, shape) in enumerate(shapes):
        stop = shapes[index + 1][0] if index + 1 < len(shapes) else len(text)
        place = related[index] if related and len(shapes) == 2 else _before(places, end, stop)
        colour, size = _before(colours, start, end), _before(sizes, start, end)
        if place is None or colour is None or size is None:
            return None
        things.append(Thing(shape, colour, size, place))
        start = end
    order = tuple(POSITIONS)
    return ImageScene(tuple(sorted(things, key=lambda thing: order.index(thing.position))), background)


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


_TABLES = (_SHAPES, _COLOURS, _SIZES, _BACKGROUNDS, _PLACES, grammar.MOTION_WORDS, _TIMBRES, _PITCHES, _PATTERNS)
_READ = {Modality.IMAGE: _read_image, Modality.VIDEO: _read_video, Modality.AUDIO: _read_audio}


def judge_text(text: str, modality: Modality) -> Scene | None:
    """The scene that a text describes; ``None`` if an attribute is missing or ambiguous."""
    return _READ[modality](text.lower())


def named(text: str) -> set[str]:
    """All attribute values that a text names."""
    return {word for table in _TABLES for _, word in _find(text.lower(), table)}


def judge_said(text: str, expected: Scene | Answer) -> Scene | Answer | None:
    """Parse a text that should describe a scene or give an answer.

    The expected answer is returned if the text names the same attributes; an answer without attributes must be equal
    to the text. Otherwise ``None`` is returned.
    """
    if not isinstance(expected, Answer):
        return judge_text(text, modality_of(expected))
    attributes = named(expected.words)
    same_words = text.lower().strip() == expected.words.lower()
    return expected if named(text) == attributes and (attributes or same_words) else None
