from random import Random

import pytest

from nextgpt_pl.modality import GENERATED, Modality
from nextgpt_pl.pocket.judges.text import judge_said, judge_text
from nextgpt_pl.pocket.world import grammar
from nextgpt_pl.pocket.world.scenes import Answer, AudioScene, VideoScene, draw_scene
from nextgpt_pl.pocket.world.talk import sentence


@pytest.mark.parametrize("modality", GENERATED)
def test_every_wording_of_a_scene_is_read_as_that_scene(modality):
    rng = Random(0)
    for index in range(2000):
        scene = draw_scene(modality, rng, ("train", "heldout")[index % 2])
        text = sentence(grammar.caption(scene, rng))
        assert judge_text(text, modality) == scene, text
        assert judge_text(f"Sure, here is {text}", modality) == scene


@pytest.mark.parametrize(
    ("text", "modality"),
    [
        ("a red circle on white", Modality.IMAGE),
        ("a small red circle on the left", Modality.IMAGE),
        ("a small red circle on the left on white and gray", Modality.IMAGE),
        ("a small red circle on white", Modality.VIDEO),
        ("a small red or blue circle moving left on white", Modality.VIDEO),
        ("a high bell", Modality.AUDIO),
        ("", Modality.AUDIO),
    ],
)
def test_what_is_missing_or_contradictory_is_not_guessed(text, modality):
    assert judge_text(text, modality) is None


def test_words_of_motion_and_pattern_are_no_sizes_and_pitches():
    assert judge_text("a red star becoming larger on black", Modality.VIDEO) == VideoScene(
        "star", "red", None, "black", "grow"
    )
    assert judge_text("a low bell at a constant pitch", Modality.AUDIO) == AudioScene("bell", "low", "steady")


@pytest.mark.parametrize(
    ("said", "wanted", "right"),
    [
        ("The disc is red.", "The circle is red.", True),
        ("The circle is blue.", "The circle is red.", False),
        ("It is red.", "The circle is red.", False),
        ("The circle is red and small.", "The circle is red.", False),
        ("there is one object. ", "There is one object.", True),
        ("There are two objects.", "There is one object.", False),
        ("", "There is one object.", False),
        ("The circle is going left.", "The circle is moving left.", True),
    ],
)
def test_an_answer_names_the_same_or_is_the_same(said, wanted, right):
    answer = Answer(wanted)
    assert judge_said(said, answer) == (answer if right else None)


def test_a_description_is_judged_by_its_scene():
    scene = AudioScene("bell", "low", "steady")
    assert judge_said("A low bell held steady.", scene) == scene
    assert judge_said("A low bell.", scene) is None
