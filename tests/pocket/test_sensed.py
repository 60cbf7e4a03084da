import re
from collections import Counter, defaultdict
from dataclasses import replace
from random import Random

import numpy as np
import pytest

from nextgpt_pl.datamodules import PocketWorld
from nextgpt_pl.media.arrays import readings
from nextgpt_pl.modality import Modality
from nextgpt_pl.pocket.judges.media import flat, matches
from nextgpt_pl.pocket.judges.text import judge_said, judge_text
from nextgpt_pl.pocket.world import dialogues, sensed_words
from nextgpt_pl.pocket.world.attributes import attributes, scene_of
from nextgpt_pl.pocket.world.scenes import COLOURS, POSITIONS, Answer
from nextgpt_pl.pocket.world.sensed import (
    DISTANCES,
    HEAT,
    HEAT_OF_COLOUR,
    ROOM,
    SENSED,
    SENSED_MOTIONS,
    SPEEDS,
    STEADINESS,
    Body,
    DepthScene,
    MotionScene,
    Solid,
    ThermalScene,
    draw_sensed,
    is_heldout,
    sensed_item,
)
from nextgpt_pl.pocket.world.sensed_turns import SENSED_ROUTES
from nextgpt_pl.pocket.world.sensors import FOCAL_TIMES_BASELINE, GRAVITY, RATE, sense


@pytest.mark.parametrize("modality", SENSED)
def test_a_caption_in_any_wording_determines_the_scene(modality):
    for index in range(200):
        rng = Random(index)
        scene = draw_sensed(modality, rng)
        assert judge_text(sensed_words.caption(scene, rng), modality) == scene
        assert judge_text(sensed_words.caption(scene), modality) == scene
        assert scene_of(attributes(scene)) == scene
        assert set(matches(scene, scene).values()) == {True}
        assert set(flat(scene)) == set(matches(None, scene))


@pytest.mark.parametrize("modality", SENSED)
def test_readings_are_valid_media_and_the_splits_share_no_scene(modality):
    train, held = ([draw_sensed(modality, Random(i), split) for i in range(200)] for split in ("train", "heldout"))
    assert not set(train) & set(held)
    assert all(is_heldout(scene) for scene in held)
    for scene in held[:20]:
        array = sense(scene, Random(1))
        assert array.dtype == np.float32
        np.testing.assert_array_equal(readings(array, modality, "x"), array)
        np.testing.assert_array_equal(sense(scene, Random(1)), array)
    with pytest.raises(ValueError, match="'train' and 'heldout'"):
        draw_sensed(modality, Random(0), "test")


def test_every_motion_is_trained_in_eight_of_its_nine_ways():
    """Each way lacks at most one motion, so that no way tells the direction."""
    ways = [(speed, steadiness) for speed in SPEEDS for steadiness in STEADINESS]
    held = [(motion, way) for motion in SENSED_MOTIONS for way in ways if is_heldout(MotionScene(motion, *way))]
    assert [motion for motion, _ in held] == list(SENSED_MOTIONS)
    assert len({way for _, way in held}) == len(SENSED_MOTIONS)


def read_by_rule(readings):
    """The motion that inertial readings ``(6, 250)`` are of, from integrals and ranges only."""
    tremor = readings[2].std()
    smooth = np.stack([np.convolve(row, np.ones(17) / 17, "same") for row in readings])[:, 9:-9]
    pushed = readings[:2] - np.array([[0.0], [GRAVITY]])
    path = pushed.cumsum(1).cumsum(1)[:, -1] / RATE**2
    if readings[1].max() > 30:
        ground = (readings[1] > 25).astype(int)
        hops = (np.diff(ground, prepend=ground[-1]) == 1).sum()  # a whole number of hops in five seconds
        motion, speed = "bounce", SPEEDS[int(np.searchsorted([2.5, 4.5], hops))]
    elif abs(readings[5].sum() / RATE) > 1.5:
        motion, speed = "spin", SPEEDS[int(np.searchsorted([1.3, 2.05], np.abs(smooth[5]).max()))]
    else:
        axis = int(np.abs(path).argmax())
        motion = (("left", "right"), ("down", "up"))[axis][int(path[axis] > 0)]
        speed = SPEEDS[int(np.searchsorted([2.0, 4.5], np.abs(smooth[axis] - GRAVITY * axis).max()))]
    return MotionScene(motion, speed, STEADINESS[int(np.searchsorted([0.15, 0.7], tremor))])


def test_a_rule_reads_held_out_motions_from_the_raw_signal():
    """What is asked about is in the readings, so that an encoder can be expected to find it."""
    scenes = [sensed_item("heldout", Modality.IMU, index) for index in range(100)]
    assert sum(read_by_rule(sense(scene, Random(i))) == scene for i, scene in enumerate(scenes)) >= 98


def test_depth_is_nearer_where_the_object_is_and_heat_is_that_of_the_colour():
    assert set(HEAT_OF_COLOUR) == set(COLOURS)
    assert set(HEAT_OF_COLOUR.values()) == set(HEAT)
    pixel = {name: (int(y), int(x)) for name, (x, y) in POSITIONS.items()}
    for distance, metres in DISTANCES.items():
        plane = sense(DepthScene((Solid("square", "large", "left", distance),)), Random(0))
        assert plane[pixel["left"]] == pytest.approx(FOCAL_TIMES_BASELINE / metres, rel=0.05)
        assert plane[pixel["right"]] == pytest.approx(0.01)
    for heat, temperature in HEAT.items():
        plane = sense(ThermalScene((Body("square", "small", "top", heat),)), Random(0))
        assert plane[pixel["top"]] == pytest.approx(temperature, rel=0.03)
        assert plane[pixel["bottom"]] == pytest.approx(ROOM)


@pytest.mark.parametrize("speed", SPEEDS)
def test_the_readings_of_a_motion_integrate_to_its_path(speed):
    """Twice integrated, the accelerometer without gravity gives the way of 3.2 m; the gyroscope gives the turn."""
    steps = {motion: sense(MotionScene(motion, speed, "steady"), Random(2)) for motion in SENSED_MOTIONS}
    for motion, axis, sign in (("left", 0, -1), ("right", 0, 1), ("up", 1, 1), ("down", 1, -1)):
        pushed = steps[motion][:2] - np.array([[0.0], [GRAVITY]])
        path = pushed.cumsum(1).cumsum(1)[:, -1] / RATE**2
        assert path[axis] == pytest.approx(3.2 * sign, abs=0.4)
        assert abs(path[1 - axis]) < 0.4
    turn = np.rad2deg(steps["spin"][5].sum() / RATE)
    assert turn == pytest.approx(-157.5, abs=4)
    assert steps["bounce"][1].mean() == pytest.approx(GRAVITY, rel=0.1)
    assert (np.abs(steps["bounce"][1]) < 0.1).mean() > 0.7  # in flight nothing is felt
    shaking = sense(MotionScene("left", speed, "shaking"), Random(2))
    assert shaking[2].std() > 10 * steps["left"][2].std()


def test_comparisons_are_answered_by_the_scene_and_judged_exactly():
    depth = DepthScene((Solid("star", "small", "left", "distant"), Solid("ring", "large", "right", "close")))
    warm = ThermalScene((Body("star", "small", "top", "cool"), Body("ring", "large", "bottom", "hot")))
    asked = dict(sensed_words.asked_of(s, Random(i)) for s in (depth, warm) for i in range(400))
    assert asked["Which object is nearer?"] == "The ring is nearer."
    assert asked["Which object is farther away?"] == "The star is farther away."
    assert asked["How far is the star?"] == "The star is distant."
    assert asked["How hot is the ring?"] == "The ring is hot."
    assert asked["Which shape is hottest?"] == "The ring is hottest."
    assert asked["Which shape is coldest?"] == "The star is coldest."
    same = replace(depth, things=tuple(replace(thing, distance="close") for thing in depth.things))
    assert not any("nearer" in sensed_words.asked_of(same, Random(i))[0] for i in range(60))
    motion = dict(sensed_words.asked_of(MotionScene("up", "slow", "shaking"), Random(i)) for i in range(40))
    assert motion["Which way does it move?"] == "It is moving up."
    nearer = Answer("The ring is nearer.")
    assert judge_said("the ring is nearer", nearer) == nearer
    for wrong in ("The star is nearer.", "The ring is farther away.", "The ring is close.", "It is nearer."):
        assert judge_said(wrong, nearer) is None


@pytest.mark.parametrize("modality", SENSED)
def test_questions_are_not_answered_by_the_most_frequent_answer(modality):
    def asked(split, index):
        dialogue = dialogues.dialogue(f"{modality} question", split, index)
        question, answer = (message.parts[-1].text for message in dialogue.messages)
        return re.sub("[^a-z ]", "", question.lower()).strip(), Answer(answer)

    answers = defaultdict(Counter)
    for index in range(400):
        question, answer = asked("train", index)
        answers[question][answer.words] += 1
    right = 0
    for index in range(200):
        question, answer = asked("heldout", index)
        best = answers[question].most_common(1)
        right += bool(best) and judge_said(best[0][0], answer) == answer
    assert right / 200 < 0.4


@pytest.mark.parametrize("route", SENSED_ROUTES)
def test_the_routes_of_sensors_are_judged_by_their_own_replies(route):
    for index in range(10):
        dialogue = dialogues.dialogue(route, "heldout", index)
        ((kind, expected),) = dialogue.attributes["expected"]
        assert kind == "text"
        assert judge_said(dialogue.messages[-1].parts[0].text, expected) == expected
        assert judge_said("A red circle.", expected) is None
        assert str(dialogue.messages[0].parts[0].modality) in route
        assert dialogue == dialogues.dialogue(route, "heldout", index)


def test_the_source_has_pairs_of_sensors_on_request_only():
    source = PocketWorld(train_size=2, val_size=1, modalities=["imu", "depth"])
    pairs = source.read("train")
    assert [p.modality for p in pairs] == [Modality.IMU] * 2 + [Modality.DEPTH] * 2
    assert pairs[0].media.source().shape == (6, 250)
    assert pairs[0].instruction is None
    assert pairs[0].media.source.content_key() != pairs[1].media.source.content_key()
    assert not {p.modality for p in PocketWorld(train_size=1).read("train")} & set(SENSED)
