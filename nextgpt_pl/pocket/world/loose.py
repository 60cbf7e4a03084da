"""Loosely worded requests: two equal objects ("two red circles"), and media of nothing in particular."""

from __future__ import annotations

from random import Random

from nextgpt_pl.modality import Modality
from nextgpt_pl.pocket.world import grammar, users
from nextgpt_pl.pocket.world.scenes import (
    BACKGROUNDS,
    COLOURS,
    OPPOSITE_POSITIONS,
    SHAPES,
    SIZES,
    TIMBRES,
    AudioScene,
    ImageScene,
    Scene,
    Split,
    Thing,
    VideoScene,
    is_heldout,
    pick,
)

# how the positions of two equal objects are said; without words, they are side by side
_SIDES: dict[tuple[str, str], tuple[str, ...]] = {
    ("left", "right"): ("side by side", "next to each other", "on the left and on the right"),
    ("top", "bottom"): ("one above the other", "near the top and near the bottom"),
}
_UNSAID: dict[Modality, Scene] = {
    Modality.IMAGE: ImageScene((Thing("star", "red", "large", "center"),), "black"),
    Modality.VIDEO: VideoScene("star", "red", "large", "black", "bounce"),
    Modality.AUDIO: AudioScene("bell", "medium", "steady"),
}
_ANYTHING: dict[Modality, tuple[str, ...]] = {
    Modality.IMAGE: (
        *("Draw something.", "Can you draw?", "Show me a picture.", "Make an image.", "Can you make a picture?"),
        *("Paint me something.", "Surprise me with a picture.", "I want an image."),
    ),
    Modality.VIDEO: (
        *("Show me a video.", "Make a video.", "Can you make a clip?", "Animate something.", "Can you make videos?"),
        *("Film something.", "Surprise me with a video.", "I want to watch a clip."),
    ),
    Modality.AUDIO: (
        *("Play something.", "Make a sound.", "Can you make a sound?", "Let me hear something.", "Play me a sound."),
        *("Can you play sounds?", "Surprise me with a sound.", "I want to hear a sound."),
    ),
}
# the words are named, not counted: the pocket LLM's vocabulary holds them, but few numbers
_KNOWN = tuple(
    (plural, f"I know the {plural} {', '.join(words[:-1])} and {words[-1]}.")
    for plural, words in (("shapes", SHAPES), ("colors", tuple(COLOURS)), ("sounds", TIMBRES))
)


def plural(noun: str) -> str:
    """The plural of a shape's name."""
    return f"{noun}es" if noun[-1] in "sx" else f"{noun}s"


def twins(rng: Random, split: Split) -> tuple[str, ImageScene]:
    """Two equal objects in few words, and the image, which is of the split.

    Size, positions and background may be left out, and have the values of :data:`users.UNSAID` then.
    """
    while True:
        said = {name for name in ("size", "position", "background") if rng.random() < 0.5}
        size = pick(rng, tuple(SIZES)) if "size" in said else users.UNSAID["size"]
        sides = pick(rng, OPPOSITE_POSITIONS) if "position" in said else OPPOSITE_POSITIONS[0]
        backdrop = pick(rng, tuple(BACKGROUNDS)) if "background" in said else users.UNSAID["background"]
        shape, colour = pick(rng, SHAPES), pick(rng, tuple(COLOURS))
        scene = ImageScene(tuple(Thing(shape, colour, size, side) for side in sides), backdrop)
        if is_heldout(scene) == (split == "heldout"):
            break
    words = [pick(rng, ("two", "two", "a pair of"))]
    words += [grammar.vary(size, rng)] if "size" in said else []
    words += [grammar.vary(colour, rng), plural(grammar.vary(shape, rng))]
    words += [pick(rng, _SIDES[sides])] if "position" in said else []
    words += [grammar.backdrop(backdrop, rng)] if "background" in said else []
    return " ".join(words), scene


def anything(modality: Modality, rng: Random) -> tuple[str, Scene]:
    """A request for a medium of nothing in particular, and the scene that answers it, which is the same each time."""
    return pick(rng, _ANYTHING[modality]), _UNSAID[modality]


def known(rng: Random) -> tuple[str, str]:
    """A question about the things that the model knows, and its answer, which names them."""
    things, answer = pick(rng, _KNOWN)
    question = pick(rng, ("How many {} do you know?", "How many {} are there?", "Which {} do you know?"))
    text = question.format(things)
    return text.replace("colors", "colours") if rng.random() < 0.5 else text, answer
