"""Text-only conversations about the pocket world, in complete and correct sentences.

They contain no media and no signal tokens; the three training stages teach these later.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from nextgpt_pl.modality import GENERATED, Modality
from nextgpt_pl.pocket.world import grammar
from nextgpt_pl.pocket.world.scenes import (
    BACKGROUNDS,
    COLOURS,
    MOTIONS,
    PATTERNS,
    SHAPES,
    TIMBRES,
    Scene,
    Split,
    draw_scene,
    pick,
)
from nextgpt_pl.pocket.world.talk import HERE, animated, asked_of, edited, modality_of, pictured, sentence, told

Exchange = list[tuple[str, str]]  # (role, text), the user first


def _listed(words: tuple[str, ...]) -> str:
    return f"{', '.join(words[:-1])} and {words[-1]}"


def _any_scene(rng: Random, split: Split) -> Scene:
    return draw_scene(pick(rng, GENERATED), rng, split)


def repeat(rng: Random, split: Split) -> Exchange:
    """A request to repeat a caption."""
    caption = grammar.caption(_any_scene(rng, split), rng)
    question = pick(rng, ("Repeat: {}", "Say this again: {}", "Copy this: {}")).format(caption)
    return [("user", question), ("assistant", sentence(caption))]


def paraphrase(rng: Random, split: Split) -> Exchange:
    """A request to rephrase a caption."""
    scene = _any_scene(rng, split)
    question = pick(rng, ("Say it in other words: {}", "Rephrase: {}", "What is another way to say: {}?"))
    return [
        ("user", question.format(grammar.caption(scene, rng))),
        ("assistant", sentence(grammar.caption(scene, rng))),
    ]


def ask(rng: Random, split: Split) -> Exchange:
    """A caption, then one or two questions about it."""
    scene = _any_scene(rng, split)
    turns: Exchange = []
    for turn in range(1 + (rng.random() < 0.4)):
        question, answer = asked_of(scene, rng)
        turns += [("user", f"{told(scene, rng)}{question}" if turn == 0 else question), ("assistant", answer)]
    return turns


def describe(rng: Random, split: Split, question: Callable[[Modality, Random], str] = grammar.question) -> Exchange:
    """A scene in words, and a request for its description."""
    scene = _any_scene(rng, split)
    question_text = question(modality_of(scene), rng)
    return [("user", f"{told(scene, rng)}{question_text}"), ("assistant", sentence(grammar.caption(scene, rng)))]


def edit(rng: Random, split: Split) -> Exchange:
    """A caption and a change to it; the answer is the changed caption."""
    scene = _any_scene(rng, split)
    change, changed = edited(scene, rng)
    return [("user", f"{told(scene, rng)}The same, {change}."), ("assistant", _shown(changed, rng))]


def animate(rng: Random, split: Split) -> Exchange:
    """An image in words and a motion; the answer is a caption of the video."""
    scene, question, moving = animated(rng, split)
    return [("user", f"{told(scene, rng)}{question}"), ("assistant", _shown(moving, rng))]


def picture(rng: Random, split: Split) -> Exchange:
    """Audio in words; the answer is a caption of its image."""
    sound, question, seen = pictured(rng, split)
    return [("user", f"{told(sound, rng)}{question}"), ("assistant", _shown(seen, rng))]


def _shown(scene: Scene, rng: Random) -> str:
    """A caption of a scene, half of the time with introductory words such as ``here is``."""
    caption = grammar.caption(scene, rng)
    return sentence(caption) if rng.random() < 0.5 else pick(rng, HERE).format(caption)


def acknowledge(rng: Random, split: Split) -> Exchange:
    """A request for a medium, answered by text only."""
    scene_modality = pick(rng, GENERATED)
    scene = draw_scene(scene_modality, rng, split)
    caption = grammar.caption(scene, rng)
    answer = pick(rng, HERE).format(grammar.caption(scene, rng))
    return [("user", grammar.request(scene_modality, caption, rng)), ("assistant", answer)]


_SMALL_TALK: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    (("Hello!", "Hi.", "Good morning.", "Hey there."), ("Hello! What shall I draw or play?", "Hi! How can I help?")),
    (("How are you?", "How do you do?"), ("I am fine, thank you.", "Very well, thank you. And you?")),
    (("Thank you!", "Thanks a lot."), ("You are welcome.", "My pleasure.")),
    (("Goodbye.", "See you later."), ("Goodbye!", "See you soon.")),
    (("Who are you?", "What are you?"), ("I am a small model of a world of shapes and sounds.",)),
    (
        ("What can you do?", "How can you help me?"),
        ("I can talk about pictures, videos and sounds.", "I can describe shapes, motions and sounds."),
    ),
    (("Which shapes do you know?", "List the shapes."), (f"I know {_listed(SHAPES)}.",)),
    (("Which colors do you know?", "List the colors."), (f"I know {_listed(tuple(COLOURS))}.",)),
    (("Which sounds do you know?", "List the sounds."), (f"I know {_listed(TIMBRES)}.",)),
    (("Which motions do you know?", "How can things move?"), (f"Things can go {_listed(MOTIONS)}.",)),
    (("Which backgrounds are there?",), (f"The background can be {_listed(tuple(BACKGROUNDS))}.",)),
    (("Which patterns can a sound have?",), (f"A sound can be {_listed(PATTERNS)}.",)),
    (("How many sides has a triangle?",), ("A triangle has three sides.",)),
    (("How many sides has a square?",), ("A square has four sides.",)),
    (("Has a circle corners?",), ("No, a circle is round.",)),
    (("What is the opposite of large?",), ("The opposite of large is small.",)),
    (("What is the opposite of left?",), ("The opposite of left is right.",)),
    (("What is another word for circle?",), ("Another word for circle is disc.",)),
)


def small_talk(rng: Random, _split: Split) -> Exchange:
    """A greeting or a question about the world in general."""
    question, answers = pick(rng, _SMALL_TALK)
    return [("user", pick(rng, question)), ("assistant", pick(rng, answers))]


Kinds = tuple[tuple[Callable[[Random, Split], Exchange], int], ...]  # each with its weight
# copying and rephrasing are frequent, since they teach attention to transfer every attribute
KINDS: Kinds = (
    (repeat, 3),
    (paraphrase, 4),
    (describe, 6),
    (ask, 5),
    (edit, 4),
    (animate, 2),
    (picture, 2),
    (acknowledge, 4),
    (small_talk, 2),
)


def conversation(rng: Random, split: Split = "train", kinds: Kinds = KINDS) -> Exchange:
    """One random conversation of one to three exchanges of any kinds."""
    each = tuple(kind for kind, weight in kinds for _ in range(weight))
    turns: Exchange = []
    for _ in range(1 + (rng.random() < 0.35) + (rng.random() < 0.15)):
        turns += pick(rng, each)(rng, split)
    return turns
