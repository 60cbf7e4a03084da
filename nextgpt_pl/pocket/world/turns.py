"""Turns of the pocket world's dialogues: each function makes the messages of one route and what the reply holds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random

import numpy as np

from nextgpt_pl.modality import GENERATED, Modality
from nextgpt_pl.pocket.world import chat, grammar, loose, talk, users
from nextgpt_pl.pocket.world.items import rendered
from nextgpt_pl.pocket.world.render import render
from nextgpt_pl.pocket.world.scenes import (
    SIZES,
    Answer,
    ImageScene,
    Scene,
    Split,
    draw_scene,
    is_heldout,
    pick,
    told_apart,
)
from nextgpt_pl.pocket.world.sensed import AnyScene
from nextgpt_pl.samples import Media, MediaPart, Message, Part, TextPart

Expected = tuple[tuple[str, AnyScene | Answer], ...]

_BRIEF_SHARE = 0.2  # share of brief descriptions in requests for two media

# like the first words of a reply, which the pocket LLM knows; its vocabulary is frozen
_ALSO = ("This is {}.", "Here you are: {}.")


@dataclass(frozen=True)
class SceneRenderer:
    """Renders a scene with random jitter; hashable, so that its encoder features can be cached."""

    scene: Scene
    seed: str

    def __call__(self) -> np.ndarray:
        """The medium's array; the same at every call."""
        return render(self.scene, Random(self.seed))


def medium_of(scene: Scene, rng: Random) -> Media:
    """A rendering of the scene."""
    return rendered(talk.modality_of(scene), SceneRenderer(scene, f"dialogue/{rng.random()}"))


def _shown(scene: Scene, rng: Random) -> MediaPart:
    return MediaPart(talk.modality_of(scene), medium_of(scene, rng))


def _made(scene: Scene, rng: Random, forms: tuple[str, ...] = talk.HERE) -> tuple[Part, ...]:
    """A sentence that describes the assistant's medium, and the medium."""
    caption = grammar.plain_caption(scene)
    sentence = TextPart(pick(rng, forms).format(caption))
    rendering = Random()
    rendering.setstate(rng.getstate())  # a copy: the media of replies change no other choice
    return sentence, MediaPart(talk.modality_of(scene), medium_of(scene, rendering), caption)


def _exchange(user_parts: tuple[Part, ...], assistant_parts: tuple[Part, ...]) -> tuple[Message, Message]:
    return Message("user", user_parts), Message("assistant", assistant_parts)


Turn = tuple[tuple[Message, ...], Expected]


def describe(modality: Modality) -> Callable[[Random, Split], Turn]:
    """A medium; the reply is its caption."""

    def turn(rng: Random, split: Split) -> Turn:
        scene = draw_scene(modality, rng, split)
        answer = TextPart(talk.sentence(grammar.plain_caption(scene)))
        question = (_shown(scene, rng), TextPart(users.question(modality, rng)))
        return _exchange(question, (answer,)), (("text", scene),)

    return turn


def produce(modality: Modality) -> Callable[[Random, Split], Turn]:
    """A caption; the reply is the medium."""

    def turn(rng: Random, split: Split) -> Turn:
        scene = draw_scene(modality, rng, split)
        question = users.request(modality, grammar.caption(scene, rng), rng)
        return _exchange((TextPart(question),), _made(scene, rng)), ((modality.value, scene),)

    return turn


def brief(rng: Random, split: Split) -> Turn:
    """A request that omits attributes."""
    modality = pick(rng, GENERATED)
    description, scene = users.brief(modality, rng, split)
    question = TextPart(users.request(modality, description, rng))
    return _exchange((question,), _made(scene, rng)), ((modality.value, scene),)


def twins(rng: Random, split: Split) -> Turn:
    """A request for two equal objects."""
    description, scene = loose.twins(rng, split)
    question = TextPart(users.request(Modality.IMAGE, description, rng))
    return _exchange((question,), _made(scene, rng)), ((Modality.IMAGE.value, scene),)


def anything(rng: Random, split: Split) -> Turn:
    """A request for a medium of nothing in particular."""
    modality = pick(rng, GENERATED)
    question, scene = loose.anything(modality, rng)
    return _exchange((TextPart(question),), _made(scene, rng)), ((modality.value, scene),)


def ask(rng: Random, split: Split) -> Turn:
    """A question about one attribute of a shown medium."""
    scene = draw_scene(pick(rng, GENERATED), rng, split)
    question, answer = talk.asked_of(scene, rng)
    return _exchange((_shown(scene, rng), TextPart(question)), (TextPart(answer),)), (("text", Answer(answer)),)


def moving(rng: Random, split: Split) -> Turn:
    """An image and a motion; the reply is a video of that object."""
    scene, question, moving = talk.animated(rng, split)
    return _exchange((_shown(scene, rng), TextPart(question)), _made(moving, rng)), ((Modality.VIDEO.value, moving),)


def sound_seen(rng: Random, split: Split) -> Turn:
    """Audio; the reply is the image that stands for it."""
    sound, question, picture = talk.pictured(rng, split)
    return _exchange((_shown(sound, rng), TextPart(question)), _made(picture, rng)), ((Modality.IMAGE.value, picture),)


def _changed(modalities: tuple[Modality, ...], rng: Random, split: Split) -> tuple[Scene, str, Scene]:
    """A scene of one of the modalities, the text of a change, and the changed scene; both scenes are of the split."""
    while True:
        modality = pick(rng, modalities) if len(modalities) > 1 else modalities[0]
        scene = draw_scene(modality, rng, split)
        for _ in range(50):
            change, after = talk.edited(scene, rng)
            things = after.things if isinstance(after, ImageScene) else ()
            if told_apart(things) and is_heldout(after) == (split == "heldout"):
                return scene, change, after


def edited(rng: Random, split: Split) -> Turn:
    """An image and a change; the reply is the changed image."""
    scene, change, after = _changed((Modality.IMAGE,), rng, split)
    question = (_shown(scene, rng), TextPart(f"The same, {change}."))
    return _exchange(question, _made(after, rng)), ((Modality.IMAGE.value, after),)


def _in_words(modality: Modality, rng: Random, split: Split) -> tuple[str, Scene]:
    """A caption or sometimes a brief description, and its scene."""
    if rng.random() < _BRIEF_SHARE:
        return users.brief(modality, rng, split)
    scene = draw_scene(modality, rng, split)
    return grammar.caption(scene, rng), scene


def picture_and_sound(rng: Random, split: Split) -> Turn:
    """An image and audio in one reply, in the order of the request."""
    kinds = [Modality.IMAGE, Modality.AUDIO]
    if rng.random() < 0.5:
        kinds.reverse()
    return _several(kinds, rng, split)


def two_pictures(rng: Random, split: Split) -> Turn:
    """Two images in one reply."""
    return _several([Modality.IMAGE, Modality.IMAGE], rng, split)


def _several(kinds: list[Modality], rng: Random, split: Split) -> Turn:
    """Two media in one reply, in the order of the request."""
    descriptions = [_in_words(kind, rng, split) for kind in kinds]
    scenes = [scene for _, scene in descriptions]
    text = users.request_both([(kind, words) for kind, (words, _) in zip(kinds, descriptions, strict=True)], rng)
    reply = (*_made(scenes[0], rng), *_made(scenes[1], rng, _ALSO))
    expected = tuple((k.value, s) for k, s in zip(kinds, scenes, strict=True))
    return _exchange((TextPart(text),), reply), expected


def followed_up(rng: Random, split: Split) -> Turn:
    """A medium is generated, then generated again with a change; the second request refers to the first reply."""
    scene, change, after = _changed(GENERATED, rng, split)
    modality = talk.modality_of(scene)
    first = _exchange((TextPart(users.request(modality, grammar.caption(scene, rng), rng)),), _made(scene, rng))
    second = _exchange((TextPart(f"The same, {change}."),), _made(after, rng))
    return (*first, *second), ((modality.value, after),)


def asked_back(rng: Random, split: Split) -> Turn:
    """A question about a medium of an earlier reply, which may not be the one that the reply describes.

    The medium alone tells the answer. That reply is not learned; in evaluation, it never fits its medium.
    """
    scene = draw_scene(pick(rng, GENERATED), rng, split)
    modality = talk.modality_of(scene)
    described = scene if split == "train" and rng.random() < 0.5 else _other_scene(scene, rng, split)
    request = users.request(modality, grammar.caption(described, rng), rng)
    text, _ = _made(described, rng)
    asked, reply = _exchange((TextPart(request),), (text, _made(scene, rng)[1]))
    question, answer = talk.asked_of(scene, rng)
    second = _exchange((TextPart(question),), (TextPart(answer),))
    return (asked, replace(reply, learned=False), *second), (("text", Answer(answer)),)


def _other_scene(scene: Scene, rng: Random, split: Split) -> Scene:
    """A scene of the same modality that differs in all attributes but the size, of which there are two values only."""
    while True:
        other = draw_scene(talk.modality_of(scene), rng, split)
        if not _values(scene) & _values(other):
            return other


def _values(scene: Scene) -> set[str]:
    """All attributes of a scene but sizes."""
    things = scene.things if isinstance(scene, ImageScene) else ()
    values = {value for part in (scene, *things) for value in vars(part).values() if isinstance(value, str)}
    return values - set(SIZES)


def beyond(rng: Random, split: Split) -> Turn:
    """A request or question about something outside the pocket world."""
    answer = TextPart(users.BEYOND)
    return _exchange((TextPart(users.beyond(rng, split)),), (answer,)), (("text", Answer(users.BEYOND)),)


def _known(rng: Random, _split: Split) -> chat.Exchange:
    question, answer = loose.known(rng)
    return [("user", question), ("assistant", answer)]


def words_only(rng: Random, split: Split) -> Turn:
    """A conversation of text only."""
    kinds = (chat.repeat, chat.paraphrase, chat.ask, chat.small_talk, chat.small_talk, _known)
    turns = pick(rng, kinds)(rng, split)
    return tuple(Message(role, (TextPart(text),)) for role, text in turns), ()  # type: ignore[arg-type]
