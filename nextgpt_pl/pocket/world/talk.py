"""Sentences about scenes of the pocket world: descriptions, questions with answers, and changes."""

from __future__ import annotations

from dataclasses import replace
from random import Random

from nextgpt_pl.modality import Modality
from nextgpt_pl.pocket.world import grammar
from nextgpt_pl.pocket.world.scenes import (
    MOTIONS,
    PATTERNS,
    PITCHES,
    ROUND_SHAPES,
    TIMBRES,
    AudioScene,
    ImageScene,
    Scene,
    Split,
    Thing,
    VideoScene,
    changed,
    draw_scene,
    is_heldout,
    pick,
)
from nextgpt_pl.pocket.world.sensed import AnyScene, DepthScene, MotionScene, ThermalScene

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


def modality_of(scene: AnyScene) -> Modality:
    """The modality of a scene."""
    if isinstance(scene, (DepthScene, ThermalScene, MotionScene)):
        return scene.modality
    if isinstance(scene, ImageScene):
        return Modality.IMAGE
    return Modality.VIDEO if isinstance(scene, VideoScene) else Modality.AUDIO


def sentence(text: str) -> str:
    """The text, capitalised and with a full stop."""
    return f"{text[0].upper()}{text[1:]}."


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


def asked_of(scene: Scene, rng: Random) -> tuple[str, str]:
    """A question about one attribute of a scene, and the answer."""
    if isinstance(scene, ImageScene):
        thing = pick(rng, scene.things)
        if len(scene.things) == 2 and rng.random() < 0.3:
            return "How many objects are there?", "There are two objects."
        if len(scene.things) == 1 and rng.random() < 0.15:
            return "How many objects are there?", "There is one object."
        answers = _answers_about(scene, thing, rng)
    elif isinstance(scene, VideoScene):
        answers = {
            "What is it doing?": f"the {scene.shape} is {grammar.MOTION_WORDS[scene.motion][0]}",
            "What shape is moving?": f"it is {grammar.with_article(scene.shape)}",
            f"What color is the {scene.shape}?": f"the {scene.shape} is {scene.colour}",
            "What color is the background?": f"the background is {scene.background}",
        }
    else:
        answers = {
            "How high is it?": f"it is {scene.pitch}",
            "What makes the sound?": f"it is {grammar.with_article(grammar.TIMBRE_WORDS[scene.timbre][0])}",
            "How does it go?": f"it is {grammar.PATTERN_WORDS[scene.pattern][0]}",
        }
    question = pick(rng, tuple(answers))
    return question, sentence(answers[question])


def _answers_about(scene: ImageScene, thing: Thing, rng: Random) -> dict[str, str]:
    """Questions about an image and one of its objects, each with its answer."""
    shape = thing.shape
    where = {"center": "in the center", "top": "near the top", "bottom": "near the bottom"}
    answers = {
        f"What is {where.get(thing.position, f'on the {thing.position}')}?": grammar.look(
            shape, thing.colour, thing.size, rng
        ),
        "What color is the background?": f"the background is {scene.background}",
    }
    if len({t.shape for t in scene.things}) == len(scene.things):
        answers[f"What color is the {shape}?"] = f"the {shape} is {thing.colour}"
        answers[f"Where is the {shape}?"] = f"the {shape} is {grammar.place(thing.position, rng)}"
        answers[f"How big is the {shape}?"] = f"the {shape} is {thing.size}"
    return answers


def edited(scene: Scene, rng: Random) -> tuple[str, Scene]:
    """An instruction that changes one attribute, of the first object if there are two, and the changed scene."""
    if isinstance(scene, ImageScene):
        thing = scene.things[0]
        kind = pick(rng, ("colour", "size", "background", "shape"))
        named = "it" if len(scene.things) == 1 else f"the {thing.colour} {thing.shape}"
        if kind == "background":
            other_image = changed(scene, kind, rng)
            return f"with a {other_image.background} background", other_image
        other = changed(thing, kind, rng)
        new = grammar.with_article(other.shape) if kind == "shape" else getattr(other, kind)
        return f"but make {named} {new}", replace(scene, things=(other, *scene.things[1:]))
    kind = "colour" if isinstance(scene, VideoScene) else "pitch"
    after = changed(scene, kind, rng)
    return f"but make it {getattr(after, kind)}", after


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


def pictured(rng: Random, split: Split) -> tuple[AudioScene, str, ImageScene]:
    """Audio, a request for its image, and the image, which is not held out in training."""
    while True:
        sound = draw_scene(Modality.AUDIO, rng, split)
        assert isinstance(sound, AudioScene)
        place, colour = _PLACE_OF_PITCH[sound.pitch], _COLOUR_OF_PATTERN[sound.pattern]
        picture = ImageScene((Thing(_SHAPE_OF_TIMBRE[sound.timbre], colour, "large", place),), "black")
        if split == "heldout" or not is_heldout(picture):
            return sound, pick(rng, _SOUND_TO_PICTURE), picture
