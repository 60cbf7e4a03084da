import pytest

from nextgpt_pl.metrics.vqa import normalise, vqa_accuracy


@pytest.mark.parametrize(
    ("answer", "expected"),
    [("The Two dogs.", "2 dogs"), ("1,000", "1000"), ("3.5", "3.5"), ("a  red,blue", "red blue"), ("none", "0")],
)
def test_answers_are_normalised(answer, expected):
    assert normalise(answer) == expected


def test_accuracy_leaves_one_annotator_out():
    assert vqa_accuracy("Yes.", ["yes"] * 10) == 1.0
    # two of ten agree: 8 sets of nine hold both (2/3 each), 2 hold one (1/3)
    assert vqa_accuracy("yes", ["yes"] * 2 + ["no"] * 8) == pytest.approx((8 * 2 / 3 + 2 * 1 / 3) / 10)
    assert vqa_accuracy("", ["yes"] * 10) == 0.0
    assert vqa_accuracy("cat", ["cat"]) == 1.0
    with pytest.raises(ValueError, match="no reference"):
        vqa_accuracy("cat", [])
