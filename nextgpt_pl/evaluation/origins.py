"""Where the media of predictions come from: how many were retrieved from a gallery, and how many generated."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from nextgpt_pl.evaluation.records import Prediction, origin_of


def origins(predictions: Sequence[Prediction]) -> dict[str, dict[str, Any]]:
    """By kind of origin, the number of media and the mean distance of the nearest items of the gallery.

    Media of decoders without a gallery are left out. The distance is ``None`` if none is known.
    """
    found: dict[str, list[float | None]] = {}
    for origin in (origin_of(medium) for prediction in predictions for medium in prediction.media):
        if origin is not None:
            found.setdefault(origin.kind, []).append(origin.distance)
    return {kind: {"media": len(each), "distance": _mean(each)} for kind, each in sorted(found.items())}


def rows(task: str, result: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    """The rows of a report about the result of a task."""
    found = result.get("origins", {})
    total = sum(each["media"] for each in found.values())
    for kind, each in found.items():
        known = each["distance"] is not None
        distance = f"mean distance of the nearest item of the gallery: {each['distance']:.4g}" if known else ""
        yield task, f"media {kind}", str(each["media"]), distance, "", "", str(total)


def _mean(distances: Sequence[float | None]) -> float | None:
    known = [distance for distance in distances if distance is not None]
    return sum(known) / len(known) if known else None
