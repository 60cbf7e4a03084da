"""Turns of dialogues about the readings of sensors."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from nextgpt_pl.modality import Modality
from nextgpt_pl.pocket.world import sensed_words, talk
from nextgpt_pl.pocket.world.scenes import Answer, Split
from nextgpt_pl.pocket.world.sensed import SENSED, SensedScene, draw_sensed
from nextgpt_pl.pocket.world.sensors import Reading
from nextgpt_pl.pocket.world.turns import Turn
from nextgpt_pl.samples import Media, MediaPart, Message, TextPart


def _asked(scene: SensedScene, question: str, answer: str, rng: Random) -> tuple[Message, Message]:
    reading = MediaPart(scene.modality, Media(scene.modality, Reading(scene, f"dialogue/{rng.random()}")))
    return Message("user", (reading, TextPart(question))), Message("assistant", (TextPart(answer),))


def describe(modality: Modality) -> Callable[[Random, Split], Turn]:
    """A reading; the reply is its caption."""

    def turn(rng: Random, split: Split) -> Turn:
        scene = draw_sensed(modality, rng, split)
        answer = talk.sentence(sensed_words.caption(scene))
        return _asked(scene, sensed_words.question(modality, rng), answer, rng), (("text", scene),)

    return turn


def ask(modality: Modality) -> Callable[[Random, Split], Turn]:
    """A question about a reading."""

    def turn(rng: Random, split: Split) -> Turn:
        scene = draw_sensed(modality, rng, split)
        question, answer = sensed_words.asked_of(scene, rng)
        return _asked(scene, question, answer, rng), (("text", Answer(answer)),)

    return turn


#: routes of a model whose encoder reads these modalities; by default no model is trained on them
SENSED_ROUTES: dict[str, Callable[[Random, Split], Turn]] = {
    **{f"{m}->text": describe(m) for m in SENSED},
    **{f"{m} question": ask(m) for m in SENSED},
}
