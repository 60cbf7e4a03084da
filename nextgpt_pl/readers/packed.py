"""JSON objects that hold a data set's rows in lists: COCO, Karpathy's splits, MSR-VTT, WavCaps, VQAv2."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any

from nextgpt_pl.errors import UserError, nearest
from nextgpt_pl.readers.layouts.base import keys, without_unknown_keys
from nextgpt_pl.readers.model import LeftOut

Rows = Callable[[dict[str, Any], Collection[str]], Iterator[Any]]

_INFO = keys("info license licenses type data_type data_subtype task_type dataset categories")


@dataclass(frozen=True)
class Packed:
    """A kind of such objects.

    Attributes:
        name: its name in messages.
        needs: keys that such an object has.
        lists: those of them that hold lists of objects.
        rows: the rows of an object, given the keys in the YAML's ``ignore``; a :class:`UserError` for a broken one.
        keys: further keys that it may have.

    """

    name: str
    needs: frozenset[str]
    lists: frozenset[str]
    rows: Rows
    keys: frozenset[str]


def unpacked(row: Any, ignored: Collection[str]) -> Iterator[Any] | None:
    """The rows of a file whose only object is ``row``; ``None`` if the object is a row itself.

    Args:
        row: the first object of a file.
        ignored: keys in the YAML's ``ignore``.

    Raises:
        UserError: the object has a key that is not read.

    """
    if not isinstance(row, dict):
        return None
    packed = next((known for known in PACKED if known.needs <= row.keys()), None)
    if packed is None or not all(_are_objects(row[key]) for key in packed.lists):
        return None
    without_unknown_keys(row, packed.needs | packed.keys, ignored, f"{packed.name} object: ")
    return packed.rows(row, ignored)


def _are_objects(value: Any) -> bool:
    """Whether a value is a list of objects, by its first element; a row of a conversation may have a list of names."""
    return isinstance(value, list) and (not value or isinstance(value[0], dict))


def _with_captions(media: str, texts: str, medium_key: str, text_key: str) -> Rows:
    """Joins a list of media with a list of their captions.

    Args:
        media: key of the list of media.
        texts: key of the list of captions.
        medium_key: key of a medium's name among the media.
        text_key: key of a medium's name among the captions.

    """
    known = keys(f"id sen_id caption {text_key}")

    def rows(packed: dict[str, Any], ignored: Collection[str]) -> Iterator[Any]:
        captions: dict[Any, list[Any]] = {}
        for number, text in enumerate(packed[texts]):
            try:
                name = _named(text, text_key)
                without_unknown_keys(text, known, ignored)
                captions.setdefault(name, []).append(text.get("caption"))
            except UserError as error:
                yield UserError(f"{texts} {number}: {error}")
        for number, medium in enumerate(packed[media]):
            try:
                name = _named(medium, medium_key)
            except UserError as error:
                yield UserError(f"{media} {number}: {error}")
                continue
            own = captions.pop(name, None)
            yield {**medium, "captions": own} if own else LeftOut(f"no caption in {texts}")
        for name, own in captions.items():
            yield UserError(f"{len(own)} captions in {texts} of {text_key}={name!r:.80}, which is not in {media}")

    return rows


def _named(row: Any, key: str) -> Any:
    if not isinstance(row, dict):
        raise UserError(f"an object is expected, got {row!r:.80}")
    name = row.get(key)
    if not isinstance(name, str | int):
        raise UserError(f"{key}={name!r:.80}: a text or a number is expected{'' if key in row else nearest(key, row)}")
    return name


def _elements(key: str, kept: str = "") -> Rows:
    """The elements of a list, each with a key of the object around it."""

    def rows(packed: dict[str, Any], ignored: Collection[str]) -> Iterator[Any]:
        common = {kept: packed[kept]} if kept in packed else {}
        for element in packed[key]:
            yield {**element, **common} if isinstance(element, dict) else element

    return rows


def _annotations(packed: dict[str, Any], ignored: Collection[str]) -> Iterator[Any]:
    """VQAv2's annotations; of each answer the text is kept."""
    for row in packed["annotations"]:
        if not isinstance(row, dict) or not isinstance(row.get("answers"), list):
            yield row
            continue
        yield {**row, "answers": [a.get("answer") if isinstance(a, dict) else a for a in row["answers"]]}


def _packed(name: str, lists: str, rows: Rows, beside: str = "", more: str = "") -> Packed:
    return Packed(name, keys(f"{lists} {beside}"), keys(lists), rows, _INFO | keys(more))


#: the table of packed objects; the first that fits unpacks
PACKED = (
    _packed("COCO", "images annotations", _with_captions("images", "annotations", "id", "image_id")),
    _packed("MSR-VTT", "videos sentences", _with_captions("videos", "sentences", "video_id", "video_id")),
    _packed("Karpathy's", "images", _elements("images"), beside="dataset"),
    _packed("VQA questions", "questions", _elements("questions", "data_subtype"), more="num_choices"),
    _packed("VQA annotations", "annotations", _annotations),
    _packed("WavCaps", "data", _elements("data"), beside="num_captions_per_audio"),
)
