"""Dialogues of the pocket world with media in user and assistant messages, for instruction tuning and its evaluation.

A dialogue's ``attributes`` are its ``route`` (``image->video``) and, under ``expected``, the content of the last reply:
pairs of a kind (``text`` or a modality) and a scene or an answer, in order.

User messages vary in wording and style (``users.py``). Replies describe a medium always in the same words and order: if
either of two objects could come first, greedy decoding would mix descriptions of both.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random

from nextgpt_pl.modality import GENERATED
from nextgpt_pl.pocket.world import turns, users
from nextgpt_pl.pocket.world.scenes import Split, pick
from nextgpt_pl.pocket.world.sensed_turns import SENSED_ROUTES
from nextgpt_pl.pocket.world.turns import Turn
from nextgpt_pl.samples import Dialogue, Message, TextPart

ROUTES: dict[str, Callable[[Random, Split], Turn]] = {
    **{f"{m}->text": turns.describe(m) for m in GENERATED},
    **{f"text->{m}": turns.produce(m) for m in GENERATED},
    "question": turns.ask,
    "image->video": turns.moving,
    "audio->image": turns.sound_seen,
    "image+text->image": turns.edited,
    "text->image+audio": turns.picture_and_sound,
    "text->image+image": turns.two_pictures,
    "follow-up": turns.followed_up,
    "asked back": turns.asked_back,
    "brief": turns.brief,
    "twins": turns.twins,
    "anything": turns.anything,
    "beyond": turns.beyond,
    "text->text": turns.words_only,
}


#: all routes; those of :data:`ROUTES` need no more than images, videos and audio
ALL_ROUTES = ROUTES | SENSED_ROUTES


def _typed(message: Message, rng: Random) -> Message:
    parts = (TextPart(users.typed(p.text, rng)) if isinstance(p, TextPart) else p for p in message.parts)
    return replace(message, parts=tuple(parts))


def dialogue(route: str, split: Split, index: int, seed: int = 0) -> Dialogue:
    """Dialogue ``index`` of a route; a third of the training dialogues of :data:`ROUTES` begin with another one."""
    key = f"pocket-{seed}/{split}/{route}/{index}"
    rng = Random(f"dialogue/{key}")
    messages, expected = ALL_ROUTES[route](rng, split)
    if split == "train" and route in ROUTES and rng.random() < 1 / 3:
        before, _ = ROUTES[pick(rng, tuple(ROUTES))](rng, split)
        messages = (*before, *messages)
    messages = tuple(_typed(m, rng) if m.role == "user" else m for m in messages)
    return Dialogue(key, messages, {"route": route, "expected": expected})
