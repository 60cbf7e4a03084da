"""Captions, questions and answers of sensed scenes, and the captions of the world by which towers are bound to text."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from nextgpt_pl.modality import Modality
from nextgpt_pl.pocket.world import grammar
from nextgpt_pl.pocket.world.scenes import (
    BACKGROUNDS,
    COLOURS,
    ROUND_SHAPES,
    SHAPES,
    SIZES,
    ImageScene,
    Scene,
    Thing,
    VideoScene,
    pick,
)
from nextgpt_pl.pocket.world.sensed import (
    DISTANCES,
    HEAT,
    HEAT_OF_COLOUR,
    Body,
    DepthScene,
    MotionScene,
    SensedScene,
    Solid,
    ThermalScene,
)
from nextgpt_pl.pocket.world.talk import sentence

QUESTIONS: dict[Modality, tuple[str, ...]] = {
    Modality.DEPTH: ("What is in this depth map?", "Describe the depth map.", "What do you see?"),
    Modality.THERMAL: ("What is in this thermal image?", "Describe the thermal image.", "What do you see?"),
    Modality.IMU: ("What do the sensors read?", "Describe the motion.", "What is going on here?"),
}
#: what answers compare objects by
COMPARED = ("nearer", "farther", "hottest", "coldest")


def question(modality: Modality, rng: Random) -> str:
    """A user's request for the description of a reading."""
    return pick(rng, QUESTIONS[modality])


def caption(scene: SensedScene, rng: Random | None = None) -> str:
    """A caption that names every attribute of the scene; without ``rng`` in fixed wording and order."""
    if isinstance(scene, MotionScene):
        words = grammar.MOTION_WORDS[scene.motion]
        motion = words[0] if rng is None else grammar.first_or_other(words, rng)
        return f"{grammar.with_article(scene.speed)} {scene.steadiness} object {motion}"
    looks = [_look(thing, rng) for thing in scene.things]
    first = scene.things[0].position
    if len(looks) == 1:
        return f"{looks[0]} {grammar.PLACES[first] if rng is None else grammar.place(first, rng)}"
    if rng is not None and rng.random() < 0.5:
        return f"{looks[1]} {'to the right of' if first == 'left' else 'below'} {looks[0]}"
    return f"{looks[0]} {'to the left of' if first == 'left' else 'above'} {looks[1]}"


def _look(thing: Solid | Body, rng: Random | None) -> str:
    ordered = (_sensed(thing), thing.size, thing.shape)
    return grammar.with_article(" ".join(word if rng is None else grammar.vary(word, rng) for word in ordered))


def _sensed(thing: Solid | Body) -> str:
    """What only the sensor tells about an object."""
    return thing.distance if isinstance(thing, Solid) else thing.heat


def asked_of(scene: SensedScene, rng: Random) -> tuple[str, str]:
    """A question about a scene, and the answer; about two objects that differ in it, half of the time a comparison."""
    if isinstance(scene, MotionScene):
        answers = {
            "Which way does it move?": f"it is {grammar.MOTION_WORDS[scene.motion][0]}",
            "How fast is it?": f"it is {scene.speed}",
            "Is it steady?": f"it is {scene.steadiness}",
        }
    else:
        answers = _compared(scene)
        if not answers or rng.random() < 0.5:
            things: Sequence[Solid | Body] = scene.things
            answers = _answers_about(scene, pick(rng, things))
    asked = pick(rng, tuple(answers))
    return asked, sentence(answers[asked])


def _compared(scene: DepthScene | ThermalScene) -> dict[str, str]:
    """Questions that compare two objects; none if they do not differ in distance, or in temperature."""
    if isinstance(scene, DepthScene):
        near, far = ((end(scene.things, key=lambda t: DISTANCES[t.distance])) for end in (min, max))
        if near.distance == far.distance:
            return {}
        return {
            "Which object is nearer?": f"the {near.shape} is nearer",
            "Which object is farther away?": f"the {far.shape} is farther away",
        }
    cold, hot = ((end(scene.things, key=lambda t: HEAT[t.heat])) for end in (min, max))
    if cold.heat == hot.heat:
        return {}
    return {
        "Which shape is hottest?": f"the {hot.shape} is hottest",
        "Which shape is coldest?": f"the {cold.shape} is coldest",
    }


def _answers_about(scene: DepthScene | ThermalScene, thing: Solid | Body) -> dict[str, str]:
    """Questions about one object, each with its answer."""
    number = "there is one object" if len(scene.things) == 1 else "there are two objects"
    answers = {
        f"What is {grammar.PLACES[thing.position]}?": _look(thing, None),
        f"Where is the {thing.shape}?": f"the {thing.shape} is {grammar.PLACES[thing.position]}",
        f"How big is the {thing.shape}?": f"the {thing.shape} is {thing.size}",
        "How many objects are there?": number,
    }
    how = "How far" if isinstance(thing, Solid) else "How hot"
    return answers | {f"{how} is the {thing.shape}?": f"the {thing.shape} is {_sensed(thing)}"}


def seen(scene: SensedScene, rng: Random) -> Scene:
    """A scene of the image or video world that has what the sensor reads, and anything that it does not see.

    The pocket text tower knows captions of such scenes.
    """
    if isinstance(scene, MotionScene):
        shapes = tuple(s for s in SHAPES if scene.motion != "spin" or s not in ROUND_SHAPES)
        look = (pick(rng, shapes), pick(rng, tuple(COLOURS)), pick(rng, tuple(SIZES)), pick(rng, tuple(BACKGROUNDS)))
        return VideoScene(*look, scene.motion)
    things = tuple(Thing(t.shape, pick(rng, _colours(t)), t.size, t.position) for t in scene.things)
    return ImageScene(things, pick(rng, tuple(BACKGROUNDS)))


def _colours(thing: Solid | Body) -> tuple[str, ...]:
    """The colours that an object may have."""
    return tuple(c for c in COLOURS if isinstance(thing, Solid) or HEAT_OF_COLOUR[c] == thing.heat)
