"""What the pocket LLM learns to speak from: conversations in whole sentences, and as people type them.

An LLM that has read whole sentences alone answers "hi" with noise, and what is built on it has to learn to read anew.
"""

from __future__ import annotations

from random import Random

from nextgpt_pl.modality import GENERATED
from nextgpt_pl.pocket.world import grammar, talk, users
from nextgpt_pl.pocket.world.scenes import Split, draw_scene, pick
from nextgpt_pl.pocket.world.talk import HERE, Exchange


def request(rng: Random, split: Split) -> Exchange:
    """A request for a medium in free words, answered in words."""
    modality = pick(rng, GENERATED)
    scene = draw_scene(modality, rng, split)
    asked = users.request(modality, grammar.caption(scene, rng), rng)
    return [("user", asked), ("assistant", pick(rng, HERE).format(grammar.caption(scene, rng)))]


def few_words(rng: Random, split: Split) -> Exchange:
    """A request that leaves attributes out; the answer names all that is meant."""
    modality = pick(rng, GENERATED)
    wanted, scene = users.brief(modality, rng, split)
    answer = pick(rng, HERE).format(grammar.caption(scene, rng))
    return [("user", users.request(modality, wanted, rng)), ("assistant", answer)]


def request_both(rng: Random, split: Split) -> Exchange:
    """A request for two media, answered in words, in the order in which they were asked for."""
    modalities = [pick(rng, GENERATED), pick(rng, GENERATED)]
    scenes = [draw_scene(modality, rng, split) for modality in modalities]
    wanted = [(m, grammar.caption(scene, rng)) for m, scene in zip(modalities, scenes, strict=True)]
    answer = " ".join(pick(rng, HERE).format(grammar.caption(scene, rng)) for scene in scenes)
    return [("user", users.request_both(wanted, rng)), ("assistant", answer)]


def describe(rng: Random, split: Split) -> Exchange:
    """A scene told, and a question for its description in free words."""
    return talk.describe(rng, split, users.question)


def beyond(rng: Random, split: Split) -> Exchange:
    """What the pocket world does not hold is declined."""
    return [("user", users.beyond(rng, split)), ("assistant", users.BEYOND)]


KINDS: talk.Kinds = (*talk.KINDS, (request, 3), (few_words, 5), (request_both, 2), (describe, 2), (beyond, 2))


def conversation(rng: Random, split: Split = "train") -> Exchange:
    """One random conversation; what the user says is typed as people type."""
    turns = talk.conversation(rng, split, KINDS)
    return [(role, users.typed(text, rng) if role == "user" else text) for role, text in turns]
