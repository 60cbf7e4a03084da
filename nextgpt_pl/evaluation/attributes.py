"""Which attributes a run gets wrong: it is asked for held-out items of the pocket world, and exact judges look."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from nextgpt_pl.modality import Modality

ALL = "all of them"
NOTHING = "nothing"


def judged_samples(
    run: Path,
    count: int = 100,
    modalities: Sequence[str] | None = None,
    batch: int = 25,
    seed: int = 0,
    trust: Sequence[str] = (),
) -> pd.DataFrame:
    """Ask a run for held-out items and judge what it makes.

    Args:
        run: folder of the run.
        count: items per modality.
        modalities: which; by default all that the run has decoders for.
        batch: items at a time.
        seed: of the noise of the first item; each takes the next.
        trust: dotted names of classes outside this package that the run may name, such as my_package.MyEncoder.

    Returns:
        A row per item and attribute: ``modality``, ``item``, ``caption``, ``attribute``, ``wanted``, ``found``,
        ``right``. An image of two objects has a row per object, and ``objects`` of them. The attribute ``all of them``
        is right where all others are.

    """
    from nextgpt_pl.pipeline import AnyToAny

    model = AnyToAny.from_run(run, trust=trust)
    rows: list[dict[str, Any]] = []
    for modality in modalities or [m.value for m in model.network.decoders]:
        for start in range(0, count, batch):
            rows += _judged(model, Modality(modality), range(start, min(count, start + batch)), seed)
    return pd.DataFrame(rows)


def _judged(model: Any, modality: Modality, numbers: range, seed: int) -> Iterator[dict[str, Any]]:
    from nextgpt_pl.pocket.judges.media import judge
    from nextgpt_pl.pocket.world.items import captioned_pair
    from nextgpt_pl.pocket.world.scenes import item_scene

    pairs = [captioned_pair("heldout", modality, number) for number in numbers]
    asked = [[{"role": "user", "content": [{"type": "text", "text": str(pair.instruction)}]}] for pair in pairs]
    replies = model.batch(asked, modalities=[modality.value], seeds=[seed + number for number in numbers])
    for number, pair, reply in zip(numbers, pairs, replies, strict=True):
        made = next(part.array for part in reply if part.type == modality.value)
        scene = item_scene("heldout", modality, number)
        about = {"modality": modality.value, "item": number, "caption": pair.caption}
        yield from ({**about, **row} for row in attribute_rows(scene, judge(made, modality)))


def attribute_rows(wanted: Any, found: Any) -> list[dict[str, Any]]:
    """A row per attribute (and object) of a scene, beside that of what was found, or of ``None``."""
    from nextgpt_pl.pocket.judges.media import all_right, flat

    asked, made = flat(wanted), flat(found) if type(found) is type(wanted) else {}
    objects = asked.get("objects", 1)
    rows = []
    for name, value in asked.items():
        values = value if isinstance(value, tuple) else (value,)
        others = made.get(name)
        others = others if isinstance(others, tuple) else (others,)
        # of another number of objects it cannot be said which is which
        others = others if len(others) == len(values) else (None,) * len(values)
        for one, other in zip(values, others, strict=True):
            # the size of what grows is none, and rightly so
            right = bool(made) and one == other
            shown = NOTHING if other is None and not right else str(other)
            rows.append({"attribute": name, "wanted": str(one), "found": shown, "right": right, "objects": objects})
    right = all_right(found, wanted)
    return [*rows, {"attribute": ALL, "wanted": "", "found": "", "right": right, "objects": objects}]


def by_attribute(rows: pd.DataFrame) -> pd.DataFrame:
    """Per modality and attribute: share ``right``, its standard ``error``, and the ``count`` it is of."""
    groups = rows.groupby(["modality", "attribute"], sort=False)["right"]
    shares = groups.agg(right="mean", count="size")
    shares["error"] = (shares["right"] * (1 - shares["right"]) / shares["count"]) ** 0.5
    return shares


def confusion(rows: pd.DataFrame, modality: str, attribute: str) -> pd.DataFrame:
    """How often what was asked for (index) became what (columns)."""
    chosen = rows[(rows["modality"] == modality) & (rows["attribute"] == attribute)]
    table = pd.crosstab(chosen["wanted"], chosen["found"])
    # the same order on both sides, so that what is right lies on the diagonal
    order = [*table.index, *(name for name in table.columns if name not in table.index)]
    return table.reindex(columns=order, fill_value=0)
