"""Dialogues of the pocket world with media on both sides: what instruction tuning learns from, and is judged by.

A dialogue's ``attributes`` hold its ``route`` (``image->video``) and, under ``expected``, what its last reply must
show or say: pairs of a kind (``text`` or a modality) and a scene or an answer, in order.

Requests are worded freely, and typed as people type (``users.py``); replies describe a medium, shown or made, always in
the same words and order. Where an LLM that writes its likeliest word may name either of two objects first, it begins
with the one and goes on as if with the other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random

import numpy as np

from nextgpt_pl.modality import GENERATED, Modality
from nextgpt_pl.pocket.world import grammar, talk, users
from nextgpt_pl.pocket.world.items import rendered
from nextgpt_pl.pocket.world.render import render
from nextgpt_pl.pocket.world.scenes import Answer, ImageScene, Scene, Split, draw_scene, is_heldout, pick, told_apart
from nextgpt_pl.samples import Dialogue, Media, MediaPart, Message, Part, TextPart

Expected = tuple[tuple[str, Scene | Answer], ...]

_BRIEF_SHARE = 0.2  # of the media in requests for two

# begins as the pocket LLM begins a reply: it is to speak again, behind a medium, and its vocabulary is frozen
_ALSO = ("This is {}.", "Here you are: {}.")


@dataclass(frozen=True)
class SceneRenderer:
    """Renders a scene with jitter of its own; hashable, so that its encoder feature is remembered."""

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
    """The assistant's medium, behind a sentence that says what it shows."""
    caption = grammar.plain_caption(scene)
    return TextPart(pick(rng, forms).format(caption)), MediaPart(talk.modality_of(scene), caption=caption)


def _exchange(asked: tuple[Part, ...], answered: tuple[Part, ...]) -> tuple[Message, Message]:
    return Message("user", asked), Message("assistant", answered)


Turn = tuple[tuple[Message, ...], Expected]


def _describe(modality: Modality) -> Callable[[Random, Split], Turn]:
    def turn(rng: Random, split: Split) -> Turn:
        scene = draw_scene(modality, rng, split)
        answer = TextPart(talk.sentence(grammar.plain_caption(scene)))
        asked = (_shown(scene, rng), TextPart(users.question(modality, rng)))
        return _exchange(asked, (answer,)), (("text", scene),)

    return turn


def _produce(modality: Modality) -> Callable[[Random, Split], Turn]:
    def turn(rng: Random, split: Split) -> Turn:
        scene = draw_scene(modality, rng, split)
        asked = users.request(modality, grammar.caption(scene, rng), rng)
        return _exchange((TextPart(asked),), _made(scene, rng)), ((modality.value, scene),)

    return turn


def _brief(rng: Random, split: Split) -> Turn:
    """A request that leaves attributes out."""
    modality = pick(rng, GENERATED)
    wanted, scene = users.brief(modality, rng, split)
    asked = TextPart(users.request(modality, wanted, rng))
    return _exchange((asked,), _made(scene, rng)), ((modality.value, scene),)


def _ask(rng: Random, split: Split) -> Turn:
    """A question about one attribute of a shown medium."""
    scene = draw_scene(pick(rng, GENERATED), rng, split)
    asked, answer = talk.asked_of(scene, rng)
    return _exchange((_shown(scene, rng), TextPart(asked)), (TextPart(answer),)), (("text", Answer(answer)),)


def _moving(rng: Random, split: Split) -> Turn:
    """A picture and a motion; the reply is a video of that object."""
    scene, asked, moving = talk.animated(rng, split)
    return _exchange((_shown(scene, rng), TextPart(asked)), _made(moving, rng)), ((Modality.VIDEO.value, moving),)


def _sound_seen(rng: Random, split: Split) -> Turn:
    """A sound; the reply is its picture."""
    sound, asked, picture = talk.pictured(rng, split)
    return _exchange((_shown(sound, rng), TextPart(asked)), _made(picture, rng)), ((Modality.IMAGE.value, picture),)


def _changed(modalities: tuple[Modality, ...], rng: Random, split: Split) -> tuple[Scene, str, Scene]:
    """A scene of one of the modalities, a change in words, and the scene after it; both of the split."""
    while True:
        modality = pick(rng, modalities) if len(modalities) > 1 else modalities[0]
        scene = draw_scene(modality, rng, split)
        for _ in range(50):
            change, after = talk.edited(scene, rng)
            things = after.things if isinstance(after, ImageScene) else ()
            if told_apart(things) and is_heldout(after) == (split == "heldout"):
                return scene, change, after


def _edited(rng: Random, split: Split) -> Turn:
    """A picture and a change; the reply is the changed picture."""
    scene, change, after = _changed((Modality.IMAGE,), rng, split)
    asked = (_shown(scene, rng), TextPart(f"The same, {change}."))
    return _exchange(asked, _made(after, rng)), ((Modality.IMAGE.value, after),)


def _in_words(modality: Modality, rng: Random, split: Split) -> tuple[str, Scene]:
    """A caption, or now and then few words, and the scene."""
    if rng.random() < _BRIEF_SHARE:
        return users.brief(modality, rng, split)
    scene = draw_scene(modality, rng, split)
    return grammar.caption(scene, rng), scene


def _picture_and_sound(rng: Random, split: Split) -> Turn:
    """Two media in one reply, in the order in which they were asked for."""
    kinds = [Modality.IMAGE, Modality.AUDIO]
    if rng.random() < 0.5:
        kinds.reverse()
    wanted = [_in_words(kind, rng, split) for kind in kinds]
    scenes = [scene for _, scene in wanted]
    said = users.request_both([(kind, words) for kind, (words, _) in zip(kinds, wanted, strict=True)], rng)
    answered = (*_made(scenes[0], rng), *_made(scenes[1], rng, _ALSO))
    expected = tuple((k.value, s) for k, s in zip(kinds, scenes, strict=True))
    return _exchange((TextPart(said),), answered), expected


def _followed_up(rng: Random, split: Split) -> Turn:
    """A medium is made, then made again with a change: the second request refers to the first reply."""
    scene, change, after = _changed(GENERATED, rng, split)
    modality = talk.modality_of(scene)
    first = _exchange((TextPart(users.request(modality, grammar.caption(scene, rng), rng)),), _made(scene, rng))
    second = _exchange((TextPart(f"The same, {change}."),), _made(after, rng))
    return (*first, *second), ((modality.value, after),)


def _beyond(rng: Random, split: Split) -> Turn:
    """A request or a question that nothing in the pocket world answers."""
    answer = TextPart(users.BEYOND)
    return _exchange((TextPart(users.beyond(rng, split)),), (answer,)), (("text", Answer(users.BEYOND)),)


def _chat(rng: Random, split: Split) -> Turn:
    """Words alone."""
    kinds = (talk.repeat, talk.paraphrase, talk.ask, talk.small_talk, talk.small_talk)
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
    said = (TextPart(users.typed(p.text, rng)) if isinstance(p, TextPart) else p for p in message.parts)
    return replace(message, parts=tuple(said))


def dialogue(route: str, split: Split, index: int, seed: int = 0) -> Dialogue:
    """Dialogue ``index`` of a route; a third of the training dialogues have an exchange of another route in front."""
    key = f"pocket-{seed}/{split}/{route}/{index}"
    rng = Random(f"dialogue/{key}")
    messages, expected = ROUTES[route](rng, split)
    if split == "train" and rng.random() < 1 / 3:
        before, _ = ROUTES[pick(rng, tuple(ROUTES))](rng, split)
        messages = (*before, *messages)
    messages = tuple(_typed(m, rng) if m.role == "user" else m for m in messages)
    return Dialogue(key, messages, {"route": route, "expected": expected})
