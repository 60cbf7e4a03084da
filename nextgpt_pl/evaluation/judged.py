"""Scores and attribute tables of replies to pocket tasks, by the pocket world's exact judges."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nextgpt_pl.evaluation import bootstrap
from nextgpt_pl.evaluation.bootstrap import Estimate
from nextgpt_pl.evaluation.records import Prediction, load_medium
from nextgpt_pl.evaluation.scores import Score, SharedScore
from nextgpt_pl.evaluation.shared_work import SharedWork
from nextgpt_pl.modality import DECODABLE, MODALITIES, Modality
from nextgpt_pl.pocket.judges.media import flat, judge, matches
from nextgpt_pl.pocket.judges.text import judge_said
from nextgpt_pl.pocket.world.attributes import scene_of
from nextgpt_pl.pocket.world.scenes import Answer
from nextgpt_pl.pocket.world.sensed import AnyScene

if TYPE_CHECKING:
    import pandas as pd

#: attribute name of table rows that are right if all other attributes are
ALL = "all of them"
#: value of attributes that were not recognised
NOTHING = "nothing"
_SIGNAL = re.compile(r"\[(?:" + "|".join(MODALITIES[m].signal_prefix for m in DECODABLE) + r")\d+\]")

Reading = tuple[AnyScene | Answer, AnyScene | Answer | None]


def judge_reply(
    text: str, media: Sequence[tuple[str, Callable[[], np.ndarray]]], expected: Iterable[tuple[str, AnyScene | Answer]]
) -> tuple[bool, list[Reading]]:
    """Judge one reply.

    Args:
        text: all text of the reply.
        media: type of each medium and a function that reads it. If a reply has other media than expected, the first
            medium of each expected type is judged.
        expected: pairs of ``text`` or a modality, and the scene or answer, in order.

    Returns:
        Whether the reply has the expected types of media, in order; and each expected scene with the one that was read,
        or ``None`` if it was not recognised.

    """
    expected_parts, remaining, readings = list(expected), list(media), list[Reading]()
    right_types = [kind for kind, _ in media] == [kind for kind, _ in expected_parts if kind != "text"]
    for kind, scene in expected_parts:
        read: AnyScene | Answer | None = None
        if kind == "text":
            read = judge_said(text, scene)
        else:
            index = next((i for i, (other, _) in enumerate(remaining) if other == kind), None)
            read = None if index is None else judge(remaining.pop(index)[1](), Modality(kind))
        readings.append((scene, read))
    return right_types, readings


def judged(prediction: Prediction, folder: Path) -> tuple[bool, list[Reading]]:
    """Judge a prediction whose media lie below ``folder``; see :func:`judge_reply`."""
    media = [(part["type"], partial(load_medium, folder, part)) for part in prediction.media]
    expected = [(kind, scene_of(attributes)) for kind, attributes in prediction.expected]
    return judge_reply(prediction.text, media, expected)


class JudgedRight(SharedScore):
    """Shares of replies with everything right, with the right media, and by attribute, by the pocket judges."""

    def compute(
        self, predictions: Sequence[Prediction], folder: Path, data: Path, work: SharedWork
    ) -> dict[str, Estimate]:
        """``all right``, ``right kinds``, and one number per attribute of what was expected."""
        right, kinds, attributes = [], [], dict[str, list[bool]]()
        for fits, readings in work.each(partial(judged, folder=folder), predictions):
            matched = [matches(actual, scene) for scene, actual in readings]
            kinds.append(fits)
            right.append(fits and all(actual == scene for scene, actual in readings))
            for name, is_right in (entry for item in matched for entry in item.items()):
                attributes.setdefault(name, []).append(is_right)
        scores = {"right kinds": kinds}
        if attributes:  # small talk has no expected answer
            scores = {"all right": right, **scores, **attributes}
        return dict(zip(scores, bootstrap.of_means([np.array(values) for values in scores.values()]), strict=True))


class MalformedSpans(Score):
    """Number of signal tokens outside of complete signal spans, in the texts of replies."""

    def __call__(self, predictions: Sequence[Prediction], folder: Path, data: Path) -> dict[str, Estimate]:
        """``malformed spans``: a count, without an interval."""
        count = sum(len(_SIGNAL.findall(prediction.text)) for prediction in predictions)
        return {"malformed spans": Estimate(float(count), None, None, len(predictions))}


def attribute_table(predictions: Sequence[Prediction], folder: Path) -> pd.DataFrame:
    """A row per reply, expected scene and attribute; the two objects of an image have a row each.

    Returns:
        Columns ``task``, ``key``, ``caption``, ``modality``, ``attribute``, ``wanted``, ``found``, ``right`` and
        ``objects``, the number of objects that were expected.

    """
    import pandas as pd

    rows: list[dict[str, Any]] = []
    for prediction in predictions:
        about = {"task": prediction.task, "key": prediction.key, "caption": next(iter(prediction.references), "")}
        for (kind, _), (scene, actual) in zip(prediction.expected, judged(prediction, folder)[1], strict=True):
            rows += ({**about, "modality": kind, **row} for row in attribute_rows(scene, actual))
    return pd.DataFrame(rows)


def attribute_rows(expected: AnyScene | Answer, actual: AnyScene | Answer | None) -> list[dict[str, Any]]:
    """A row per attribute (and object) of an expected scene, with the value of the actual scene."""
    expected_values = flat(expected)
    actual_values = flat(actual) if actual is not None and type(actual) is type(expected) else {}
    objects = expected_values.get("objects", 1)
    rows = []
    for name, value in expected_values.items():
        values = value if isinstance(value, tuple) else (value,)
        others = actual_values.get(name)
        others = others if isinstance(others, tuple) else (others,)
        # objects cannot be paired if their number differs
        others = others if len(others) == len(values) else (None,) * len(values)
        for own, other in zip(values, others, strict=True):
            # the size of a growing object is None
            right = bool(actual_values) and own == other
            shown = NOTHING if other is None and not right else str(other)
            rows.append({"attribute": name, "wanted": str(own), "found": shown, "right": right, "objects": objects})
    return [*rows, {"attribute": ALL, "wanted": "", "found": "", "right": actual == expected, "objects": objects}]


def by_attribute(rows: pd.DataFrame) -> pd.DataFrame:
    """Per modality and attribute: share ``right``, its standard ``error``, and ``count``."""
    groups = rows.groupby(["modality", "attribute"], sort=False)["right"]
    shares = groups.agg(right="mean", count="size")
    shares["error"] = (shares["right"] * (1 - shares["right"]) / shares["count"]) ** 0.5
    return shares


def confusion(rows: pd.DataFrame, modality: str, attribute: str) -> pd.DataFrame:
    """Confusion matrix of expected values (index) and actual values (columns)."""
    chosen = rows[(rows["modality"] == modality) & (rows["attribute"] == attribute)]
    table = chosen.groupby(["wanted", "found"]).size().unstack(fill_value=0)
    # the same order on both sides puts right values on the diagonal
    order = [*table.index, *(name for name in table.columns if name not in table.index)]
    return table.reindex(columns=order, fill_value=0)
