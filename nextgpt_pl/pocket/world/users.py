"""Informal user messages: careless spelling, brief requests, and requests for things outside the pocket world.

Complete sentences that name every attribute are in ``talk.py``. A model trained on those only fails on "draw a red
circle", which lacks the full stop, the size, the position and the background.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from random import Random
from typing import Any

from nextgpt_pl.modality import GENERATED, Modality
from nextgpt_pl.pocket.world import grammar
from nextgpt_pl.pocket.world.scenes import (
    OPPOSITE_POSITIONS,
    AudioScene,
    ImageScene,
    Scene,
    Split,
    Thing,
    VideoScene,
    draw_scene,
    is_heldout,
    pick,
    told_apart,
)
from nextgpt_pl.pocket.world.talk import sentence

#: default of each attribute that a request omits
UNSAID = {
    "colour": "red",
    "size": "large",
    "position": "center",
    "background": "black",
    "pitch": "medium",
    "pattern": "steady",
}
_OMITTED_SHARE = 0.6  # share of omitted attributes in a brief request
_CARELESS_SHARE = 0.5

_GREETINGS = ("Hi! ", "Hello! ", "Hello, ", "Hey, ", "OK, ", "Thanks! ", "Great! Now ")
_MORE_REQUESTS: dict[Modality, tuple[str, ...]] = {
    Modality.IMAGE: (
        "Make a picture of {}.",
        "Create an image of {}.",
        "Generate an image of {}.",
        "Paint {}.",
        "Draw me {}.",
        "Show me {}.",
        "I want to see {}.",
        "Give me a picture of {}.",
        "{}.",
    ),
    Modality.VIDEO: (
        "Make a video of {}.",
        "Create a video of {}.",
        "Generate a video of {}.",
        "Film {}.",
        "Show me {}.",
        "I want to watch {}.",
        "Give me a video of {}.",
        "{}.",
    ),
    Modality.AUDIO: (
        "Make the sound of {}.",
        "Create the sound of {}.",
        "Generate the sound of {}.",
        "Let me listen to {}.",
        "Play me {}.",
        "I want to hear {}.",
        "Give me the sound of {}.",
        "{}.",
    ),
}
# requests for two media in one sentence
_CLAUSES: dict[Modality, tuple[str, ...]] = {
    Modality.IMAGE: ("draw {}", "paint {}", "show me {}", "make a picture of {}"),
    Modality.VIDEO: ("animate {}", "film {}", "show me {}", "make a video of {}"),
    Modality.AUDIO: ("play {}", "let me hear {}", "make the sound of {}"),
}
_MORE_QUESTIONS: dict[Modality, tuple[str, ...]] = {
    Modality.IMAGE: ("What is this?", "What does the picture show?", "Describe this image.", "Describe it."),
    Modality.VIDEO: ("What is this?", "What does the video show?", "Describe this video.", "Describe it."),
    Modality.AUDIO: ("What is this?", "Which sound is this?", "Describe this sound.", "Describe it."),
}

# sentences of the LLM's pre-training, and other wordings
_REWORDED: dict[str, tuple[str, ...]] = {
    "Hello!": ("Hello there!", "Good evening!"),
    "Thank you!": ("Thanks!", "Thank you very much.", "Nice!"),
    "What can you do?": ("Help!", "What can I ask?", "What do you know?"),
    "Who are you?": ("What is your name?", "Are you a robot?"),
    "Which shapes do you know?": ("What shapes do you know?", "Which shapes can you draw?"),
    "Which colors do you know?": ("What colors do you know?", "Which colors are there?"),
    "Which sounds do you know?": ("What sounds do you know?", "Which sounds can you play?"),
    "Which motions do you know?": ("What motions do you know?", "What can things do?"),
}

BEYOND = "I only know shapes, motions and sounds."
# topics outside the pocket world, for training and for evaluation
_NOUNS: dict[Split, tuple[str, ...]] = {
    "train": (
        *("cat", "house", "tree", "car", "flower", "bird", "face", "mountain", "boat", "plane", "horse", "table"),
        *("king", "city", "river", "phone", "cow", "robot", "apple", "book", "cup", "snake", "bridge", "moon", "dress"),
        *("piano", "violin", "voice", "storm", "cat sleeping", "man with a hat", "girl on a bike", "bowl of soup"),
        *("sheep", "goat", "tiger", "elephant", "mouse", "duck", "eagle", "spider", "bee", "whale", "shark", "frog"),
        *(
            "door",
            "window",
            "street",
            "shop",
            "school",
            "church",
            "tower",
            "garden",
            "beach",
            "island",
            "desert",
            "lake",
        ),
        *("truck", "bicycle", "rocket", "ship", "tractor", "wheel", "engine", "lamp", "bed", "sofa", "mirror", "shoe"),
        *("hat", "shirt", "scarf", "bread", "cake", "pizza", "banana", "carrot", "egg", "bottle", "spoon"),
        *("organ", "flute", "ladder", "song", "waterfall", "fire", "rain", "cloud", "snowman", "mushroom", "leaf"),
        *("doctor", "teacher", "baby", "soldier", "queen", "pirate", "monster", "ghost", "dancer", "crowd", "hand"),
        *("child with a kite", "woman reading", "two people talking", "boat in a storm", "bird in a tree", "old map"),
    ),
    "heldout": (
        *("dog", "castle", "forest", "bus", "rose", "fish", "train", "clock", "lion", "chair", "trumpet", "drum"),
        *("woman", "ship on the sea", "boy with a ball"),
    ),
}
_QUESTIONS: dict[Split, tuple[str, ...]] = {
    "train": (
        *("Tell me a joke.", "What is 2 + 2?", "What is the capital of France?", "Who is the president?"),
        *("What time is it?", "Write a poem about love.", "How is the weather?", "Translate this into German."),
        *("What is the meaning of life?", "Write some code.", "Who wrote Hamlet?", "Sing me a song."),
        *("How do I cook rice?", "What happened yesterday?", "Recommend a film.", "How old is the sun?"),
        *("What is 12 minus 5?", "What is 9 divided by 3?", "What is the capital of Italy?", "Where is Japan?"),
        *("Write an essay about trees.", "Write an email to Anna.", "Tell me about history.", "Tell me a riddle."),
        *("Who painted this?", "Who is the king of Spain?", "Who lives next door?", "When is my birthday?"),
        *("What year is it?", "Explain how a car works.", "Explain the theory of evolution.", "How tall is a giraffe?"),
        *(
            "How many people live in China?",
            "How far is it to London?",
            "Why does it snow?",
            "Book a table for two.",
        ),
        *("Call my mother.", "Set an alarm.", "Summarise this book.", "Fix my computer.", "Buy some milk."),
        *("What should I eat?", "What do you think of love?", "Can you dance?", "Is it raining?", "Are you human?"),
    ),
    "heldout": (
        *("Tell me a story.", "What is 7 times 6?", "What is the capital of Spain?", "Who won the game?"),
        *("What day is it?", "Write a letter to my boss.", "How far is the moon?", "Explain quantum physics."),
    ),
}


def request(modality: Modality, caption: str, rng: Random) -> str:
    """A user's request for a medium with that caption, in more wordings than those of the LLM's pre-training."""
    return pick(rng, (*grammar.REQUESTS[modality], *_MORE_REQUESTS[modality])).format(caption)


def request_both(captions: Sequence[tuple[Modality, str]], rng: Random) -> str:
    """A user's request for media with these captions in one reply, in this order."""
    parts = (pick(rng, _CLAUSES[modality]).format(words) for modality, words in captions)
    return sentence(pick(rng, (", and ", " and ", ", then ")).join(parts))


def question(modality: Modality, rng: Random) -> str:
    """A user's request for the description of a medium, in more wordings than those of the LLM's pre-training."""
    return pick(rng, (*grammar.QUESTIONS[modality], *_MORE_QUESTIONS[modality]))


def typed(text: str, rng: Random) -> str:
    """A sentence as typed by users: half of the time with a greeting, in lower case or without final punctuation."""
    text = pick(rng, (text, *_REWORDED.get(text, ())))
    if rng.random() >= _CARELESS_SHARE:
        return text
    if rng.random() < 0.25:
        text = f"{pick(rng, _GREETINGS)}{text[0].lower()}{text[1:]}"
    if rng.random() < 0.5:
        text = text.lower()
    if rng.random() < 0.75:
        text = text.rstrip(".?!")
    if rng.random() < 0.1 and "please" not in text.lower():
        text = f"{text.rstrip('.?!')} please"
    return text


def brief(modality: Modality, rng: Random, split: Split) -> tuple[str, Scene]:
    """A brief description and its scene, which is of the split; omitted attributes have the values of :data:`UNSAID`.

    If the positions of two objects are omitted, the first one is on the left.
    """
    while True:
        unsaid = {name for name in UNSAID if rng.random() < _OMITTED_SHARE}
        # a scene of any split, since the split of the completed scene counts
        scene = _filled(draw_scene(modality, rng, "train" if rng.random() < 0.5 else "heldout"), unsaid)
        if isinstance(scene, ImageScene):
            things = tuple(_filled(thing, unsaid) for thing in scene.things)
            if len(things) == 2 and "position" in unsaid:
                sides = zip(things, OPPOSITE_POSITIONS[0], strict=True)
                things = tuple(replace(thing, position=side) for thing, side in sides)
            if not told_apart(things):
                continue
            scene = replace(scene, things=things)
        if is_heldout(scene) == (split == "heldout"):
            return _wording(scene, unsaid, rng), scene


def _filled(target: Any, unsaid: set[str]) -> Any:
    """An object or a scene with the default values of omitted attributes."""
    return replace(target, **{n: UNSAID[n] for n in unsaid if getattr(target, n, None) is not None})


def _wording(scene: Scene, unsaid: set[str], rng: Random) -> str:
    """A description of a scene without some attributes."""

    def said(name: str, words: str) -> list[str]:
        return [] if name in unsaid else [words]

    def look(thing: Thing | VideoScene) -> list[str]:
        size = said("size", grammar.vary(thing.size, rng)) if thing.size else []
        return [*size, *said("colour", grammar.vary(thing.colour, rng)), grammar.vary(thing.shape, rng)]

    if isinstance(scene, AudioScene):
        timbre = grammar.first_or_other(grammar.TIMBRE_WORDS[scene.timbre], rng)
        pitch = said("pitch", grammar.first_or_other(grammar.PITCH_WORDS[scene.pitch], rng))
        pattern = said("pattern", grammar.first_or_other(grammar.PATTERN_WORDS[scene.pattern], rng))
        return " ".join([_phrase([*pitch, timbre]), *pattern])
    behind = said("background", grammar.backdrop(scene.background, rng))
    if isinstance(scene, VideoScene):
        motion = grammar.first_or_other(grammar.MOTION_WORDS[scene.motion], rng)
        if " " not in motion and rng.random() < 0.5:
            return " ".join([_phrase([motion, *look(scene)]), *behind])
        return " ".join([_phrase(look(scene)), motion, *behind])
    first = scene.things[0]
    if len(scene.things) == 1:
        return " ".join([_phrase(look(first)), *said("position", grammar.place(first.position, rng)), *behind])
    where = said("position", "to the left of" if first.position == "left" else "above") or ["and"]
    return " ".join([_phrase(look(first)), *where, _phrase(look(scene.things[1])), *behind])


def _phrase(words: list[str]) -> str:
    return grammar.with_article(" ".join(words))


def beyond(rng: Random, split: Split) -> str:
    """A request or a question about what the pocket world does not hold."""
    if rng.random() < 0.3:
        return pick(rng, _QUESTIONS[split])
    return request(pick(rng, GENERATED), grammar.with_article(pick(rng, _NOUNS[split])), rng)
