"""Text-only conversations about the pocket world, in complete and correct sentences.

They contain no media and no signal tokens; the three training stages teach these later.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random

from nextgpt_pl.modality import GENERATED, Modality
from nextgpt_pl.pocket.world import grammar
from nextgpt_pl.pocket.world.scenes import (
    BACKGROUNDS,
    COLOURS,
    MOTIONS,
    PATTERNS,
    PITCHES,
    ROUND_SHAPES,
    SHAPES,
    SIZES,
    TIMBRES,
    AudioScene,
    ImageScene,
    Scene,
    Split,
    Thing,
    VideoScene,
    draw_scene,
    is_heldout,
    pick,
)

Exchange = list[tuple[str, str]]  # (role, text), the user first

HERE = ("Sure, here is {}.", "Here you are: {}.", "This is {}.")
_MOVE = {
    "left": ("Make it move left.", "Let it slide to the left.", "Now it goes left."),
    "right": ("Make it move right.", "Let it slide to the right.", "Now it goes right."),
    "up": ("Make it move up.", "Let it climb up.", "Now it goes upwards."),
    "down": ("Make it move down.", "Let it sink down.", "Now it goes downwards."),
    "grow": ("Make it grow.", "Let it get bigger.", "Now it becomes larger."),
    "spin": ("Make it spin.", "Let it rotate.", "Now it turns around."),
    "bounce": ("Make it bounce.", "Let it hop.", "Now it jumps up and down."),
}
_SOUND_TO_PICTURE = ("Draw this sound.", "What does this look like?", "Show me a picture of this sound.")
# the image that stands for audio: each attribute of the audio determines one of the image
_SHAPE_OF_TIMBRE = dict(zip(TIMBRES, ("circle", "square", "ring", "star", "triangle"), strict=True))
_PLACE_OF_PITCH = dict(zip(PITCHES, ("bottom", "center", "top"), strict=True))
_COLOUR_OF_PATTERN = dict(zip(PATTERNS, ("blue", "orange", "green", "red", "purple"), strict=True))


def modality_of(scene: Scene) -> Modality:
    """The modality of a scene."""
    if isinstance(scene, ImageScene):
        return Modality.IMAGE
    return Modality.VIDEO if isinstance(scene, VideoScene) else Modality.AUDIO


def sentence(text: str) -> str:
    """The text, capitalised and with a full stop."""
    return f"{text[0].upper()}{text[1:]}."


def _listed(words: tuple[str, ...]) -> str:
    return f"{', '.join(words[:-1])} and {words[-1]}"


def keywords(scene: Scene, rng: Random) -> str:
    """A scene in telegraphic style: its attributes in any order, those of an object together."""
    if isinstance(scene, ImageScene):
        groups = [[t.size, t.colour, t.shape, t.position] for t in scene.things] + [[scene.background]]
    elif isinstance(scene, VideoScene):
        groups = [[*filter(None, [scene.size]), scene.colour, scene.shape], [scene.motion], [scene.background]]
    else:
        groups = [[scene.timbre], [scene.pitch], [scene.pattern]]
    texts = [" ".join(_shuffled(group, rng)) for group in groups]
    return sentence(", ".join(_shuffled(texts, rng)))


def _shuffled(words: list[str], rng: Random) -> list[str]:
    """Shuffle with ``rng.random()`` only, as :func:`pick` does."""
    return [word for _, word in sorted((rng.random(), word) for word in words)]


def told(scene: Scene, rng: Random) -> str:
    """A scene in a user's words, followed by a space or line break; it takes the position of a medium."""
    text = keywords(scene, rng) if rng.random() < 0.4 else sentence(grammar.caption(scene, rng))
    return text + pick(rng, (" ", "\n"))


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


def _asked_of_image(scene: ImageScene, rng: Random) -> tuple[str, str]:
    thing = pick(rng, scene.things)
    if len(scene.things) == 2 and rng.random() < 0.3:
        return "How many objects are there?", "There are two objects."
    if len(scene.things) == 1 and rng.random() < 0.15:
        return "How many objects are there?", "There is one object."
    shape = thing.shape
    where = {"center": "in the center", "top": "near the top", "bottom": "near the bottom"}
    answers = {
        f"What is {where.get(thing.position, f'on the {thing.position}')}?": (
            f"{grammar.look(thing.shape, thing.colour, thing.size, rng)}"
        ),
        "What color is the background?": f"the background is {scene.background}",
    }
    if len({t.shape for t in scene.things}) == len(scene.things):
        answers[f"What color is the {shape}?"] = f"the {shape} is {thing.colour}"
        answers[f"Where is the {shape}?"] = f"the {shape} is {grammar.place(thing.position, rng)}"
        answers[f"How big is the {shape}?"] = f"the {shape} is {thing.size}"
    question = pick(rng, tuple(answers))
    return question, sentence(answers[question])


def _asked_of_video(scene: VideoScene, rng: Random) -> tuple[str, str]:
    motion = grammar.MOTION_WORDS[scene.motion][0]
    answers = {
        "What is it doing?": f"the {scene.shape} is {motion}",
        "What shape is moving?": f"it is {grammar.with_article(scene.shape)}",
        f"What color is the {scene.shape}?": f"the {scene.shape} is {scene.colour}",
        "What color is the background?": f"the background is {scene.background}",
    }
    question = pick(rng, tuple(answers))
    return question, sentence(answers[question])


def _asked_of_audio(scene: AudioScene, rng: Random) -> tuple[str, str]:
    answers = {
        "How high is it?": f"it is {scene.pitch}",
        "What makes the sound?": f"it is {grammar.with_article(grammar.TIMBRE_WORDS[scene.timbre][0])}",
        "How does it go?": f"it is {grammar.PATTERN_WORDS[scene.pattern][0]}",
    }
    question = pick(rng, tuple(answers))
    return question, sentence(answers[question])


def asked_of(scene: Scene, rng: Random) -> tuple[str, str]:
    """A question about one attribute of a scene, and the answer."""
    if isinstance(scene, ImageScene):
        return _asked_of_image(scene, rng)
    if isinstance(scene, VideoScene):
        return _asked_of_video(scene, rng)
    return _asked_of_audio(scene, rng)


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


def edited(scene: Scene, rng: Random) -> tuple[str, Scene]:
    """An instruction that changes one attribute, of the first object if there are two, and the changed scene."""
    if isinstance(scene, ImageScene):
        thing = scene.things[0]
        kind = pick(rng, ("colour", "size", "background", "shape"))
        named = "it" if len(scene.things) == 1 else f"the {thing.colour} {thing.shape}"
        if kind == "background":
            background = pick(rng, tuple(b for b in BACKGROUNDS if b != scene.background))
            return f"with a {background} background", replace(scene, background=background)
        options = {"colour": tuple(COLOURS), "size": tuple(SIZES), "shape": SHAPES}[kind]
        new = pick(rng, tuple(o for o in options if o != getattr(thing, kind)))
        changed = replace(scene, things=(replace(thing, **{kind: new}), *scene.things[1:]))
        return f"but make {named} {grammar.with_article(new) if kind == 'shape' else new}", changed
    if isinstance(scene, VideoScene):
        colour = pick(rng, tuple(c for c in COLOURS if c != scene.colour))
        return f"but make it {colour}", replace(scene, colour=colour)
    pitch = pick(rng, tuple(p for p in PITCHES if p != scene.pitch))
    return f"but make it {pitch}", replace(scene, pitch=pitch)


def edit(rng: Random, split: Split) -> Exchange:
    """A caption and a change to it; the answer is the changed caption."""
    scene = _any_scene(rng, split)
    change, changed = edited(scene, rng)
    return [("user", f"{told(scene, rng)}The same, {change}."), ("assistant", _shown(changed, rng))]


def animated(rng: Random, split: Split) -> tuple[ImageScene, str, VideoScene]:
    """An image of one object, a request to move it, and the video; the video is of the split."""
    while True:
        scene, motion = draw_scene(Modality.IMAGE, rng, split), pick(rng, MOTIONS)
        if not isinstance(scene, ImageScene) or len(scene.things) > 1:
            continue
        thing = scene.things[0]
        if motion == "spin" and thing.shape in ROUND_SHAPES:
            continue
        size = None if motion == "grow" else thing.size
        moving = VideoScene(thing.shape, thing.colour, size, scene.background, motion)
        if is_heldout(moving) == (split == "heldout"):
            return scene, pick(rng, _MOVE[motion]), moving


def animate(rng: Random, split: Split) -> Exchange:
    """An image in words and a motion; the answer is a caption of the video."""
    scene, question, moving = animated(rng, split)
    return [("user", f"{told(scene, rng)}{question}"), ("assistant", _shown(moving, rng))]


def pictured(rng: Random, split: Split) -> tuple[AudioScene, str, ImageScene]:
    """Audio, a request for its image, and the image, which is not held out in training."""
    while True:
        sound = draw_scene(Modality.AUDIO, rng, split)
        assert isinstance(sound, AudioScene)
        place, colour = _PLACE_OF_PITCH[sound.pitch], _COLOUR_OF_PATTERN[sound.pattern]
        picture = ImageScene((Thing(_SHAPE_OF_TIMBRE[sound.timbre], colour, "large", place),), "black")
        if split == "heldout" or not is_heldout(picture):
            return sound, pick(rng, _SOUND_TO_PICTURE), picture


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
