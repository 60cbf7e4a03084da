"""Dialogues of the pocket world with media in user and assistant messages, for instruction tuning and its evaluation.

A dialogue's ``attributes`` are its ``route`` (``image->video``) and, under ``expected``, the content of the last reply:
pairs of a kind (``text`` or a modality) and a scene or an answer, in order.

User messages vary in wording and style (``users.py``). Replies describe a medium always in the same words and order: if
either of two objects could come first, greedy decoding would mix descriptions of both.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random

import numpy as np

from nextgpt_pl.modality import GENERATED, Modality
from nextgpt_pl.pocket.world import chat, grammar, talk, users
from nextgpt_pl.pocket.world.items import rendered
from nextgpt_pl.pocket.world.render import render
from nextgpt_pl.pocket.world.scenes import Answer, ImageScene, Scene, Split, draw_scene, is_heldout, pick, told_apart
from nextgpt_pl.samples import Dialogue, Media, MediaPart, Message, Part, TextPart

Expected = tuple[tuple[str, Scene | Answer], ...]

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


def _describe(modality: Modality) -> Callable[[Random, Split], Turn]:
    def turn(rng: Random, split: Split) -> Turn:
        scene = draw_scene(modality, rng, split)
        answer = TextPart(talk.sentence(grammar.plain_caption(scene)))
        question = (_shown(scene, rng), TextPart(users.question(modality, rng)))
        return _exchange(question, (answer,)), (("text", scene),)

    return turn


def _produce(modality: Modality) -> Callable[[Random, Split], Turn]:
    def turn(rng: Random, split: Split) -> Turn:
        scene = draw_scene(modality, rng, split)
        question = users.request(modality, grammar.caption(scene, rng), rng)
        return _exchange((TextPart(question),), _made(scene, rng)), ((modality.value, scene),)

    return turn


def _brief(rng: Random, split: Split) -> Turn:
    """A request that omits attributes."""
    modality = pick(rng, GENERATED)
    description, scene = users.brief(modality, rng, split)
    question = TextPart(users.request(modality, description, rng))
    return _exchange((question,), _made(scene, rng)), ((modality.value, scene),)


def _ask(rng: Random, split: Split) -> Turn:
    """A question about one attribute of a shown medium."""
    scene = draw_scene(pick(rng, GENERATED), rng, split)
    question, answer = talk.asked_of(scene, rng)
    return _exchange((_shown(scene, rng), TextPart(question)), (TextPart(answer),)), (("text", Answer(answer)),)


def _moving(rng: Random, split: Split) -> Turn:
    """An image and a motion; the reply is a video of that object."""
    scene, question, moving = talk.animated(rng, split)
    return _exchange((_shown(scene, rng), TextPart(question)), _made(moving, rng)), ((Modality.VIDEO.value, moving),)


def _sound_seen(rng: Random, split: Split) -> Turn:
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


def _edited(rng: Random, split: Split) -> Turn:
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


def _picture_and_sound(rng: Random, split: Split) -> Turn:
    """Two media in one reply, in the order of the request."""
    kinds = [Modality.IMAGE, Modality.AUDIO]
    if rng.random() < 0.5:
        kinds.reverse()
    descriptions = [_in_words(kind, rng, split) for kind in kinds]
    scenes = [scene for _, scene in descriptions]
    text = users.request_both([(kind, words) for kind, (words, _) in zip(kinds, descriptions, strict=True)], rng)
    reply = (*_made(scenes[0], rng), *_made(scenes[1], rng, _ALSO))
    expected = tuple((k.value, s) for k, s in zip(kinds, scenes, strict=True))
    return _exchange((TextPart(text),), reply), expected


def _followed_up(rng: Random, split: Split) -> Turn:
    """A medium is generated, then generated again with a change; the second request refers to the first reply."""
    scene, change, after = _changed(GENERATED, rng, split)
    modality = talk.modality_of(scene)
    first = _exchange((TextPart(users.request(modality, grammar.caption(scene, rng), rng)),), _made(scene, rng))
    second = _exchange((TextPart(f"The same, {change}."),), _made(after, rng))
    return (*first, *second), ((modality.value, after),)


def _beyond(rng: Random, split: Split) -> Turn:
    """A request or question about something outside the pocket world."""
    answer = TextPart(users.BEYOND)
    return _exchange((TextPart(users.beyond(rng, split)),), (answer,)), (("text", Answer(users.BEYOND)),)


def _chat(rng: Random, split: Split) -> Turn:
    """A conversation of text only."""
    kinds = (chat.repeat, chat.paraphrase, chat.ask, chat.small_talk, chat.small_talk)
    turns = pick(rng, kinds)(rng, split)
    return tuple(Message(role, (TextPart(text),)) for role, text in turns), ()  # type: ignore[arg-type]


ROUTES: dict[str, Callable[[Random, Split], Turn]] = {
    **{f"{m}->text": _describe(m) for m in GENERATED},
    **{f"text->{m}": _produce(m) for m in GENERATED},
    "question": _ask,
    "image->video": _moving,
    "audio->image": _sound_seen,
    "image+text->image": _edited,
    "text->image+audio": _picture_and_sound,
    "follow-up": _followed_up,
    "brief": _brief,
    "beyond": _beyond,
    "text->text": _chat,
}


def _typed(message: Message, rng: Random) -> Message:
    parts = (TextPart(users.typed(p.text, rng)) if isinstance(p, TextPart) else p for p in message.parts)
    return replace(message, parts=tuple(parts))


def dialogue(route: str, split: Split, index: int, seed: int = 0) -> Dialogue:
    """Dialogue ``index`` of a route; a third of the training dialogues begin with an exchange of another route."""
    key = f"pocket-{seed}/{split}/{route}/{index}"
    rng = Random(f"dialogue/{key}")
    messages, expected = ROUTES[route](rng, split)
    if split == "train" and rng.random() < 1 / 3:
        before, _ = ROUTES[pick(rng, tuple(ROUTES))](rng, split)
        messages = (*before, *messages)
    messages = tuple(_typed(m, rng) if m.role == "user" else m for m in messages)
    return Dialogue(key, messages, {"route": route, "expected": expected})
