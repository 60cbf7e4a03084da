"""Captions, requests and questions of the pocket world, in varied wording.

A caption names every attribute of its scene, so it determines the scene.
"""

from __future__ import annotations

from random import Random

from nextgpt_pl.modality import Modality
from nextgpt_pl.pocket.world.scenes import AudioScene, ImageScene, Scene, Thing, VideoScene, pick

# canonical word -> synonyms; the canonical word is used half of the time
SYNONYMS: dict[str, tuple[str, ...]] = {
    "small": ("little", "tiny"),
    "large": ("big", "huge"),
    "circle": ("disc",),
    "square": ("box",),
    "triangle": (),
    "star": (),
    "cross": ("plus sign",),
    "ring": ("hoop",),
    "purple": ("violet",),
    "cyan": ("turquoise",),
    "gray": ("grey",),
    "center": ("in the middle", "at the center"),
    "left": ("at the left side", "to the left"),
    "right": ("at the right side", "to the right"),
    "top": ("at the top",),
    "bottom": ("at the bottom",),
}
PLACES = {
    "center": "in the center",
    "left": "on the left",
    "right": "on the right",
    "top": "near the top",
    "bottom": "near the bottom",
}
MOTION_WORDS: dict[str, tuple[str, ...]] = {
    "left": ("moving left", "sliding to the left", "going left"),
    "right": ("moving right", "sliding to the right", "going right"),
    "up": ("moving up", "going upwards", "climbing up"),
    "down": ("moving down", "going downwards", "sinking down"),
    "grow": ("growing", "getting bigger", "becoming larger"),
    "spin": ("spinning", "rotating", "turning around"),
    "bounce": ("bouncing", "hopping", "jumping up and down"),
}
TIMBRE_WORDS: dict[str, tuple[str, ...]] = {
    "sine": ("sine tone", "pure tone"),
    "square wave": ("square wave", "buzzing tone"),
    "bell": ("bell", "chime"),
    "noise": ("noise", "hiss"),
    "pluck": ("plucked string", "guitar string"),
}
PITCH_WORDS: dict[str, tuple[str, ...]] = {
    "low": ("low", "deep", "low-pitched"),
    "medium": ("medium", "mid-range"),
    "high": ("high", "high-pitched", "bright"),
}
PATTERN_WORDS: dict[str, tuple[str, ...]] = {
    "steady": ("held steady", "at a constant pitch"),
    "rising": ("rising in pitch", "sliding upwards"),
    "falling": ("falling in pitch", "sliding downwards"),
    "beeps": ("in two short beeps", "sounding twice"),
    "tremolo": ("with tremolo", "trembling"),
}
REQUESTS: dict[Modality, tuple[str, ...]] = {
    Modality.IMAGE: (
        "Draw {}.",
        "Show me a picture of {}.",
        "Please make an image of {}.",
        "I would like to see {}.",
        "Can you paint {}?",
    ),
    Modality.VIDEO: (
        "Animate {}.",
        "Show me a video of {}.",
        "Please make a clip of {}.",
        "I would like to watch {}.",
        "Can you film {}?",
    ),
    Modality.AUDIO: (
        "Play {}.",
        "Let me hear {}.",
        "Please make the sound of {}.",
        "I would like to listen to {}.",
        "Can you play {}?",
    ),
}
QUESTIONS: dict[Modality, tuple[str, ...]] = {
    Modality.IMAGE: ("What is in this image?", "Describe the picture.", "What do you see?"),
    Modality.VIDEO: ("What happens in this video?", "Describe the clip.", "What is going on here?"),
    Modality.AUDIO: ("What do you hear?", "Describe the sound.", "What is this sound?"),
}


def vary(word: str, rng: Random) -> str:
    """The word, or half of the time one of its synonyms if it has any."""
    others = SYNONYMS.get(word, ())
    return pick(rng, others) if others and rng.random() < 0.5 else word


def first_or_other(options: tuple[str, ...], rng: Random) -> str:
    """The first option half of the time, else one of the others."""
    return options[0] if rng.random() < 0.5 else pick(rng, options[1:])


def with_article(phrase: str) -> str:
    """``a`` or ``an`` before the phrase."""
    return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"


def look(shape: str, colour: str, size: str | None, rng: Random) -> str:
    """An object without its position: ``a small red circle``."""
    words = [vary(size, rng)] if size else []
    return with_article(" ".join([*words, vary(colour, rng), vary(shape, rng)]))


def place(position: str, rng: Random) -> str:
    """Where an object is: ``on the left``."""
    return pick(rng, SYNONYMS[position]) if rng.random() < 0.5 else PLACES[position]


def backdrop(background: str, rng: Random) -> str:
    """The background clause: ``on a white background``."""
    return pick(rng, ("on a {} background", "on {}", "against a {} backdrop")).format(vary(background, rng))


def _thing(thing: Thing, rng: Random) -> str:
    return f"{look(thing.shape, thing.colour, thing.size, rng)} {place(thing.position, rng)}"


def _two_things(first: Thing, second: Thing, rng: Random) -> str:
    if rng.random() < 0.4:
        return f"{_thing(first, rng)} and {_thing(second, rng)}"
    looks = [look(t.shape, t.colour, t.size, rng) for t in (first, second)]
    sideways = first.position == "left"
    if rng.random() < 0.5:
        return f"{looks[0]} {'to the left of' if sideways else 'above'} {looks[1]}"
    return f"{looks[1]} {'to the right of' if sideways else 'below'} {looks[0]}"


def _image_caption(scene: ImageScene, rng: Random) -> str:
    things = (
        _thing(scene.things[0], rng) if len(scene.things) == 1 else _two_things(scene.things[0], scene.things[1], rng)
    )
    if rng.random() < 0.25:
        return f"{with_article(vary(scene.background, rng))} background with {things}"
    return f"{things} {backdrop(scene.background, rng)}"


def _video_caption(scene: VideoScene, rng: Random) -> str:
    thing = look(scene.shape, scene.colour, scene.size, rng)
    motion = first_or_other(MOTION_WORDS[scene.motion], rng)
    if rng.random() < 0.25:
        return f"{thing} {backdrop(scene.background, rng)}, {motion}"
    return f"{thing} {motion} {backdrop(scene.background, rng)}"


def _audio_caption(scene: AudioScene, rng: Random) -> str:
    timbre = first_or_other(TIMBRE_WORDS[scene.timbre], rng)
    pitch = first_or_other(PITCH_WORDS[scene.pitch], rng)
    pattern = first_or_other(PATTERN_WORDS[scene.pattern], rng)
    if rng.random() < 0.25:
        return f"{with_article(timbre)}, {pitch}, {pattern}"
    return f"{with_article(pitch)} {timbre} {pattern}"


def caption(scene: Scene, rng: Random) -> str:
    """A caption that names every attribute of the scene."""
    if isinstance(scene, ImageScene):
        return _image_caption(scene, rng)
    if isinstance(scene, VideoScene):
        return _video_caption(scene, rng)
    return _audio_caption(scene, rng)


def plain_caption(scene: Scene) -> str:
    """A caption in fixed wording and order: canonical words, objects in the order of the scene."""
    if isinstance(scene, AudioScene):
        pitch, timbre = PITCH_WORDS[scene.pitch][0], TIMBRE_WORDS[scene.timbre][0]
        return f"{with_article(f'{pitch} {timbre}')} {PATTERN_WORDS[scene.pattern][0]}"
    if isinstance(scene, VideoScene):
        words = f"{_plain_look(scene)} {MOTION_WORDS[scene.motion][0]}"
    elif len(scene.things) == 1:
        words = f"{_plain_look(scene.things[0])} {PLACES[scene.things[0].position]}"
    else:
        first, second = scene.things
        relation = "to the left of" if first.position == "left" else "above"
        words = f"{_plain_look(first)} {relation} {_plain_look(second)}"
    return f"{words} on a {scene.background} background"


def _plain_look(thing: Thing | VideoScene) -> str:
    return with_article(" ".join(filter(None, (thing.size, thing.colour, thing.shape))))


def request(modality: Modality, caption: str, rng: Random) -> str:
    """A user's request for a medium with that caption."""
    return pick(rng, REQUESTS[modality]).format(caption)


def question(modality: Modality, rng: Random) -> str:
    """A user's request for the description of a medium."""
    return pick(rng, QUESTIONS[modality])
