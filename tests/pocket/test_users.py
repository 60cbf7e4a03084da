import re
from random import Random

import pytest

from nextgpt_pl.modality import GENERATED
from nextgpt_pl.pocket.judges import text as judge_text
from nextgpt_pl.pocket.judges.media import flat
from nextgpt_pl.pocket.world import chat, grammar, users
from nextgpt_pl.pocket.world.scenes import draw_scene, is_heldout

_RELATION = {"left": "to the left of", "top": "above"}


def _words(text):
    return re.sub(r"[^\w ]", "", text.lower()).split()


@pytest.mark.parametrize("split", ["train", "heldout"])
@pytest.mark.parametrize("modality", GENERATED)
def test_few_words_say_all_but_what_goes_without_saying(modality, split):
    """Each attribute of the scene is in the words, or is what nobody needs to say; nothing else is in them."""
    left_out = set()
    for seed in range(300):
        wanted, scene = users.brief(modality, Random(seed), split)
        assert is_heldout(scene) == (split == "heldout")
        said = judge_text.named(wanted)
        assert said <= judge_text.named(grammar.plain_caption(scene))
        for name, value in flat(scene).items():
            values = value if isinstance(value, tuple) else (value,)
            if name == "position" and len(values) == 2:
                assert _RELATION[values[0]] in wanted or values == ("left", "right")
            elif name != "objects":
                unsaid = {one for one in values if one not in {*said, None}}  # what grows has no size
                assert not unsaid or unsaid == {users.UNSAID[name]}, (wanted, scene)
                left_out |= {name} if unsaid else set()
    assert left_out == users.UNSAID.keys() & flat(scene).keys()


def test_what_is_typed_has_all_words_of_the_sentence():
    seen = set()
    for seed in range(300):
        rng = Random(seed)
        modality = GENERATED[seed % 3]
        text = users.request(modality, "a large red circle", rng)
        typed = users.typed(text, rng)
        assert " ".join(_words(text)) in " ".join(_words(typed))
        seen |= {typed == text, typed[-1] in ".?!", typed == typed.lower(), len(_words(typed)) > len(_words(text))}
    assert seen == {True, False}


def test_half_of_the_sentences_are_left_as_they_are():
    same = sum(users.typed("Draw a ring.", Random(seed)) == "Draw a ring." for seed in range(400))
    assert 180 < same < 240


def test_other_words_for_small_talk_are_for_what_is_said():
    said = {text for asked, _ in chat._SMALL_TALK for text in asked}
    assert users._REWORDED.keys() <= said
    assert not said & {other for others in users._REWORDED.values() for other in others}


def test_what_lies_beyond_the_world_names_nothing_of_it():
    asked = {split: {users.beyond(Random(seed), split) for seed in range(2000)} for split in ("train", "heldout")}
    assert not asked["train"] & asked["heldout"]
    for text in asked["train"] | asked["heldout"]:
        assert not judge_text.named(text), text


@pytest.mark.parametrize("modality", GENERATED)
def test_requests_and_questions_include_those_that_the_llm_has_learned_from(modality):
    rng = Random(0)
    wanted = grammar.caption(draw_scene(modality, rng), rng)
    asked = {users.request(modality, wanted, rng) for _ in range(400)}
    assert asked > {form.format(wanted) for form in grammar.REQUESTS[modality]}
    assert {users.question(modality, rng) for _ in range(400)} > set(grammar.QUESTIONS[modality])
