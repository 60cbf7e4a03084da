from random import Random

import pytest

from nextgpt_pl.modality import GENERATED
from nextgpt_pl.pocket.judges import text as judge_text
from nextgpt_pl.pocket.world import grammar, loose, users
from nextgpt_pl.pocket.world.scenes import COLOURS, SHAPES, TIMBRES, is_heldout


@pytest.mark.parametrize("split", ["train", "heldout"])
def test_two_equal_objects_are_in_other_places(split):
    left_out = 0
    for seed in range(200):
        words, scene = loose.twins(Random(seed), split)
        assert is_heldout(scene) == (split == "heldout")
        first, second = scene.things
        assert (first.shape, first.colour, first.size) == (second.shape, second.colour, second.size)
        assert first.position != second.position
        assert words.startswith(("two ", "a pair of "))
        said = judge_text.named(words.replace("above", ""))
        for name, value in (("size", first.size), ("background", scene.background)):
            if value not in said:
                left_out += 1
                assert value == users.UNSAID[name]
    assert left_out


def test_plurals_of_all_shapes():
    words = {word for shape in SHAPES for word in (shape, *grammar.SYNONYMS[shape])}
    plurals = {loose.plural(word) for word in words}
    assert {"crosses", "boxes", "circles", "plus signs", "rings"} <= plurals
    assert len(plurals) == len(words)


@pytest.mark.parametrize("modality", GENERATED)
def test_nothing_in_particular_is_always_the_same_scene_of_training(modality):
    scenes = {loose.anything(modality, Random(seed))[1] for seed in range(20)}
    assert len(scenes) == 1
    assert not is_heldout(scenes.pop())


def test_what_is_known_is_named_and_not_counted():
    found = dict(loose.known(Random(seed)) for seed in range(60))
    assert {question.split()[0] for question in found} == {"How", "Which"}
    for words, plural in ((SHAPES, "shapes"), (COLOURS, "colors"), (TIMBRES, "sounds")):
        (answer,) = {a for q, a in found.items() if f" {plural} " in q.replace("colours", "colors")}
        assert answer.startswith(f"I know the {plural} ")
        assert all(word in answer for word in words)
        assert not any(character.isdigit() for character in answer)
