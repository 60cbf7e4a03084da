from random import Random

import pytest

from nextgpt_pl.modality import GENERATED
from nextgpt_pl.pocket.judges import text as judge_text
from nextgpt_pl.pocket.pretrain import conversations
from nextgpt_pl.pocket.world import chat, users
from nextgpt_pl.pocket.world.scenes import pick

_OWN = [kind for kind, _ in conversations.KINDS if kind.__module__ != chat.__name__]


@pytest.mark.parametrize("kind", _OWN)
def test_users_and_the_assistant_take_turns(kind):
    for seed in range(20):
        (asker, asked), (answerer, answer) = kind(Random(seed), "train")
        assert (asker, answerer) == ("user", "assistant")
        assert asked.strip()
        assert answer.endswith(".")


@pytest.mark.parametrize("split", ["train", "heldout"])
def test_an_answer_to_few_words_names_the_whole_scene(split):
    """Also what the request leaves out."""
    for seed in range(60):
        (_, asked), (_, answer) = conversations.few_words(Random(seed), split)
        rng = Random(seed)
        modality = pick(rng, GENERATED)
        wanted, scene = users.brief(modality, rng, split)
        assert wanted.lower() in asked.lower()
        assert judge_text.judge_text(answer, modality) == scene, answer


def test_only_what_the_user_says_is_typed_carelessly():
    spoken = [turn for seed in range(200) for turn in conversations.conversation(Random(seed))]
    assert all(text[0].isupper() and text[-1] in ".!?" for role, text in spoken if role == "assistant")
    asked = [text for role, text in spoken if role == "user"]
    assert 0.15 < sum(text == text.lower() for text in asked) / len(asked) < 0.35


def test_what_is_beyond_the_world_is_declined():
    (_, asked), (_, answer) = conversations.beyond(Random(0), "heldout")
    assert asked == users.beyond(Random(0), "heldout")
    assert answer == users.BEYOND
