"""Predictions on disk: one JSON object per line, media as files beside them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from nextgpt_pl.decoders.base import constant
from nextgpt_pl.errors import UserError
from nextgpt_pl.media.clips import is_clip
from nextgpt_pl.media.reading import array_of
from nextgpt_pl.media.writing import save_exactly
from nextgpt_pl.modality import MODALITIES, Modality
from nextgpt_pl.readers.files import inside, leaves
from nextgpt_pl.samples import Media, Origin, ReplyPart, StoredMedia
from nextgpt_pl.utils.atomic import write_atomic

FILE = "predictions.jsonl"
REMARKS = "remarks.json"


@dataclass(frozen=True)
class Prediction:
    """One item of a task with the model's reply.

    Attributes:
        task: name of the task.
        key: key of the item, unique within the task.
        prompt: parts of the last question, ``{"type": "text", "text": ...}`` or ``{"type": "image"}``.
        reply: parts in order; a medium's ``file`` is a path below the predictions' folder. Media whose values are all
            equal (a black picture, silence) are marked as ``constant``; words that the LLM wrote for one are its
            ``caption``; its ``origin`` is that of :class:`~nextgpt_pl.samples.Origin`.
        references: reference texts: captions, or answers of annotators.
        reference: reference medium, ``{"type": ..., "file": ...}``; its file is in the task's data folder if it has
            one, and in the predictions' folder if it has none or the medium is ``copied``.
        expected: exact content in the pocket world: pairs of a kind and the attributes of a scene.
        failed: why a file or the row of the item could not be read; the item then has no reply and no score. ``None``
            otherwise.
        about: what a benchmark's file says about the item.

    """

    task: str
    key: str
    prompt: list[dict[str, Any]]
    reply: list[dict[str, Any]]
    references: list[str] = field(default_factory=list)
    reference: dict[str, Any] | None = None
    expected: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    failed: str | None = None
    about: dict[str, Any] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """The reply's text."""
        return " ".join(part["text"] for part in self.reply if part["type"] == "text")

    @property
    def media(self) -> list[dict[str, Any]]:
        """The reply's media, in order."""
        return [part for part in self.reply if part["type"] != "text"]

    @property
    def asked(self) -> str:
        """The question as readable text."""
        marks = {m.value: spec.placeholder for m, spec in MODALITIES.items()}
        return " ".join(p["text"] if p["type"] == "text" else marks[p["type"]] for p in self.prompt)


def write_line(prediction: Prediction, file: Any) -> None:
    """Append a prediction to an open file and flush it, so that an interrupted run loses none."""
    # lone surrogates, which UTF-8 cannot encode, are escaped as in JSON
    line = json.dumps(asdict(prediction), ensure_ascii=False).encode("utf-8", "backslashreplace")
    file.write(line.decode("utf-8") + "\n")
    file.flush()


def read(folder: Path) -> list[Prediction]:
    """All predictions of a folder; the last one of each item counts, since a later run may answer a failed item.

    A prediction whose parts are malformed is one that failed.

    Raises:
        UserError: there are none, or a line names no task and item; the message names the line.

    """
    file = folder / FILE
    if not file.is_file():
        raise UserError(f"{folder}: no {FILE} there; make it with: python -m nextgpt_pl test -c FILE --run RUN")
    return list({(p.task, p.key): p for p in _lines(file)}.values())


def _lines(file: Path) -> Iterator[Prediction]:
    # splitlines() would also split at Unicode line breaks inside a text
    lines = file.read_text(encoding="utf-8", errors="replace").removesuffix("\n").split("\n")
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line)
            yield _prediction(record, f"{FILE}, line {number}")
        except (ValueError, TypeError, RecursionError) as error:
            if number == len(lines):
                return  # truncated by an interruption; its item is answered again
            raise UserError(f"{file}: line {number} is no prediction ({error})") from error


def _prediction(record: Any, where: str) -> Prediction:
    if not isinstance(record, dict) or not all(isinstance(record.get(key), str) for key in ("task", "key")):
        raise TypeError("task and key are expected")
    try:
        prediction = Prediction(**record)
        malformed = _malformed(prediction)
    except TypeError as error:  # of keys that are missing or not known
        malformed = str(error)
    return (
        Prediction(record["task"], record["key"], [], [], failed=f"{where}: {malformed}") if malformed else prediction
    )


def _malformed(prediction: Prediction) -> str | None:
    """What a prediction's parts lack; ``None``: nothing."""
    for name in ("prompt", "reply", "references", "expected"):
        if not isinstance(getattr(prediction, name), list):
            return f"{name}: a list is expected"
    needed = [*((part, "text") for part in prediction.prompt), *((part, "file") for part in prediction.reply)]
    if prediction.reference is not None:
        needed.append((prediction.reference, "file"))
    for part, key in needed:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind != "text" and kind not in MODALITIES:
            return f"a part of text or a medium is expected, got {part!r:.80}"
        if (kind == "text" or key == "file") and not isinstance(part.get("text" if kind == "text" else key), str):
            return f"its part has no {'text' if kind == 'text' else key}: {part!r:.80}"
        if kind != "text" and key == "file" and (leaves(part["file"]) or "\0" in part["file"]):
            return f"its file leaves its folder: {part['file']!r:.80}"
    for part in prediction.reply:
        origin_of(part)
    if not all(isinstance(text, str) for text in prediction.references):
        return "references: texts are expected"
    pairs = all(isinstance(p, list) and len(p) == 2 and isinstance(p[1], dict) for p in prediction.expected)
    return None if pairs else "expected: pairs of a kind and attributes are expected"


def origin_of(part: Mapping[str, Any]) -> Origin | None:
    """Where a medium of a prediction comes from; ``None``: it is not recorded.

    Raises:
        TypeError: it is malformed.

    """
    found = part.get("origin")
    if found is None:
        return None
    if not isinstance(found, dict) or found.get("kind") not in ("retrieved", "generated"):
        raise TypeError(f"origin: a kind, retrieved or generated, is expected, got {found!r:.80}")
    distance = found.get("distance")
    if distance is not None and not (isinstance(distance, (int, float)) and 0 <= distance < math.inf):
        raise TypeError(f"origin.distance={distance!r:.80}: a number from 0 is expected")
    return Origin(**found)


def written(part: ReplyPart, folder: Path, name: str) -> dict[str, Any]:
    """A part as a record; media are written without loss, so that metrics do not measure compression."""
    if part.type == "text":
        return {"type": "text", "text": part.text or ""}
    modality = Modality(part.type)
    assert part.array is not None
    path = save_exactly(part.array, modality, folder / "media" / name, part.rate)
    file: dict[str, Any] = {"type": part.type, "file": str(path.relative_to(folder))}
    if part.caption:
        file["caption"] = part.caption
    if part.origin:
        file["origin"] = part.origin.as_dict()
    return {**file, "constant": True} if constant(part.array) else file


def written_reference(medium: Media | None, data: Path | None, folder: Path, name: str) -> dict[str, Any] | None:
    """A reference medium as a record; one that is no file in the data folder ``data`` is copied to ``folder``."""
    if medium is None:
        return None
    kind, source = medium.modality, medium.source
    if is_clip(medium) or not isinstance(source, Path | StoredMedia):
        array, rate = array_of(medium)
        return {**written(ReplyPart(kind.value, array=array, rate=rate), folder, name), "copied": True}
    if isinstance(source, Path) and data is not None and source.is_relative_to(data):
        return {"type": kind.value, "file": str(source.relative_to(data))}
    ending = PurePath(str(source)).suffix.lower()
    path = folder / "media" / f"{name}{ending if ending in MODALITIES[kind].suffixes else ''}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(source.read_bytes() if isinstance(source, Path) else source.read())
    return {"type": kind.value, "file": str(path.relative_to(folder)), "copied": True}


def write_remarks(folder: Path, task: str, remarks: Mapping[str, int]) -> None:
    """Write the number of rows of each remark of a task to ``remarks.json``, beside those of other tasks."""
    write_atomic(folder / REMARKS, json.dumps({**read_remarks(folder), task: dict(remarks)}, indent=2) + "\n")


def read_remarks(folder: Path) -> dict[str, dict[str, int]]:
    """The number of rows of each remark, by task; empty in folders of earlier versions.

    Raises:
        UserError: the file holds something else.

    """
    file = folder / REMARKS
    try:
        content = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        return {str(task): {str(text): int(n) for text, n in found.items()} for task, found in content.items()}
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{file}: numbers of rows by task and remark are expected ({error})") from error


def load_medium(folder: Path, part: Mapping[str, Any]) -> np.ndarray:
    """A medium of a prediction as array.

    Raises:
        UserError: the file lies outside of the folder, is missing or unreadable.

    """
    return array_of(as_media(folder, part))[0]


def reference_folder(reference: Mapping[str, Any], folder: Path, data: Path) -> Path:
    """The folder of a reference medium's file: that of the predictions, or the task's data folder."""
    return folder if reference.get("copied") else data


def as_media(folder: Path, part: Mapping[str, Any]) -> Media:
    """A medium of a prediction as :class:`Media`."""
    return Media(Modality(part["type"]), inside(folder, str(part["file"])))
