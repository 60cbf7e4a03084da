"""Training data of the pocket LLM: conversations in complete sentences and in informal user messages.

An LLM trained on complete sentences only fails on informal messages such as "hi", also after the three stages.
"""

from __future__ import annotations

from random import Random

from nextgpt_pl.modality import GENERATED
from nextgpt_pl.pocket.world import chat, grammar, users
from nextgpt_pl.pocket.world.chat import Exchange
from nextgpt_pl.pocket.world.scenes import Split, draw_scene, pick
from nextgpt_pl.pocket.world.talk import HERE


def request(rng: Random, split: Split) -> Exchange:
    """A freely worded request for a medium, answered by text."""
    modality = pick(rng, GENERATED)
    scene = draw_scene(modality, rng, split)
    question = users.request(modality, grammar.caption(scene, rng), rng)
    return [("user", question), ("assistant", pick(rng, HERE).format(grammar.caption(scene, rng)))]


def few_words(rng: Random, split: Split) -> Exchange:
    """A request that omits attributes; the answer names all attributes."""
    modality = pick(rng, GENERATED)
    description, scene = users.brief(modality, rng, split)
    answer = pick(rng, HERE).format(grammar.caption(scene, rng))
    return [("user", users.request(modality, description, rng)), ("assistant", answer)]


def request_both(rng: Random, split: Split) -> Exchange:
    """A request for two media, answered by text in the order of the request."""
    modalities = [pick(rng, GENERATED), pick(rng, GENERATED)]
    scenes = [draw_scene(modality, rng, split) for modality in modalities]
    captions = [(m, grammar.caption(scene, rng)) for m, scene in zip(modalities, scenes, strict=True)]
    answer = " ".join(pick(rng, HERE).format(grammar.caption(scene, rng)) for scene in scenes)
    return [("user", users.request_both(captions, rng)), ("assistant", answer)]


def describe(rng: Random, split: Split) -> Exchange:
    """A scene in words, and a freely worded request for its description."""
    return chat.describe(rng, split, users.question)


def beyond(rng: Random, split: Split) -> Exchange:
    """A request for something outside the pocket world, which the answer declines."""
    return [("user", users.beyond(rng, split)), ("assistant", users.BEYOND)]


KINDS: chat.Kinds = (*chat.KINDS, (request, 3), (few_words, 5), (request_both, 2), (describe, 2), (beyond, 2))


def conversation(rng: Random, split: Split = "train") -> Exchange:
    """One random conversation with informal user messages."""
    turns = chat.conversation(rng, split, KINDS)
    return [(role, users.typed(text, rng) if role == "user" else text) for role, text in turns]
