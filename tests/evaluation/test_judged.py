import pandas as pd
import pytest

from nextgpt_pl.evaluation.judged import ALL, NOTHING, attribute_rows, by_attribute, confusion
from nextgpt_pl.pocket.world.scenes import AudioScene, ImageScene, Thing, VideoScene
from nextgpt_pl.reports.figures import attribute_bars, confusion_figure

RED = Thing("circle", "red", "small", "left")
BLUE = Thing("star", "blue", "large", "right")
TWO = ImageScene((RED, BLUE), "white")


def _right(rows):
    return [(row["attribute"], row["right"]) for row in rows]


def test_each_object_is_a_row():
    found = ImageScene((RED, Thing("star", "green", "large", "right")), "white")
    rows = attribute_rows(TWO, found)
    colours = [(row["wanted"], row["found"], row["right"]) for row in rows if row["attribute"] == "colour"]
    assert colours == [("red", "red", True), ("blue", "green", False)]
    assert rows[-1]["attribute"] == ALL
    assert not rows[-1]["right"]
    assert {row["objects"] for row in rows} == {2}
    assert all(right for _, right in _right(attribute_rows(TWO, TWO)))


def test_another_number_of_objects_and_nothing_at_all():
    rows = attribute_rows(TWO, ImageScene((RED,), "white"))
    assert {name for name, right in _right(rows) if right} == {"background"}
    shapes = [row["found"] for row in rows if row["attribute"] == "shape"]
    assert shapes == [NOTHING, NOTHING]
    assert not any(right for _, right in _right(attribute_rows(TWO, None)))
    assert not any(right for _, right in _right(attribute_rows(TWO, AudioScene("sine", "low", "steady"))))


def test_what_grows_has_no_size_and_rightly_so():
    scene = VideoScene("circle", "red", None, "black", "grow")
    assert dict(_right(attribute_rows(scene, scene)))["size"]
    assert not dict(_right(attribute_rows(scene, None)))["size"]


@pytest.fixture
def frame():
    wanted = [AudioScene("sine", pitch, "steady") for pitch in ("low", "low", "high", "high")]
    found = [AudioScene("sine", "low", "steady"), AudioScene("bell", "high", "steady"), wanted[2], None]
    rows = [row for one, other in zip(wanted, found, strict=True) for row in attribute_rows(one, other)]
    return pd.DataFrame(rows).assign(modality="audio")


def test_shares_and_confusion(frame):
    shares = by_attribute(frame)
    assert shares.loc[("audio", "pitch"), "right"] == 0.5
    assert shares.loc[("audio", "pitch"), "error"] == 0.25
    assert shares.loc[("audio", "timbre"), "right"] == 0.5
    assert shares.loc[("audio", ALL), "right"] == 0.5
    table = confusion(frame, "audio", "pitch")
    assert list(table.index) == ["high", "low"]
    assert list(table.columns) == ["high", "low", NOTHING]
    assert table.to_numpy().tolist() == [[1, 0, 1], [1, 1, 0]]


def test_figures(frame):
    (axis,) = attribute_bars(by_attribute(frame)).axes
    assert [bar.get_width() for bar in axis.patches] == [0.5, 0.5, 0.75, 0.5]
    (axis,) = confusion_figure(confusion(frame, "audio", "pitch"), "pitch").axes
    assert sorted(text.get_text() for text in axis.texts) == ["1"] * 4
