"""A layout that the YAML describes: which column of a row means what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nextgpt_pl.errors import UserError, nearest
from nextgpt_pl.modality import MODALITIES, Modality
from nextgpt_pl.readers.layouts.base import Layout
from nextgpt_pl.readers.layouts.captions import modality_by_ending
from nextgpt_pl.readers.layouts.questions import answers_of, question_text
from nextgpt_pl.readers.model import Captioned, Question
from nextgpt_pl.readers.names import NamePattern
from nextgpt_pl.readers.place import Place
from nextgpt_pl.readers.values import captions_of
from nextgpt_pl.samples import Media, MediaPart

_FILE = "file"
_LISTS = ("caption", "answer")
_ROLES = (*(m.value for m in MODALITIES), _FILE, *_LISTS, "question", "key")


@dataclass(frozen=True)
class ColumnRow:
    """Reads a row by the YAML's ``columns``.

    Attributes:
        media: of each medium, its modality (``None``: by the file's ending), and its column or the pattern of its name.
        captions: columns of captions.
        question: column of the question, or empty.
        answers: columns of answers.
        key: column of the row's name, or empty.

    """

    media: tuple[tuple[Modality | None, str | NamePattern], ...]
    captions: tuple[str, ...]
    question: str
    answers: tuple[str, ...]
    key: str

    @property
    def columns(self) -> frozenset[str]:
        """All columns that are read."""
        named = [(m.columns if isinstance(m, NamePattern) else (m,)) for _, m in self.media]
        single = [column for column in (self.question, self.key) if column]
        return frozenset([c for columns in named for c in columns] + [*self.captions, *self.answers, *single])

    def __call__(self, row: dict[str, Any], place: Place) -> list[Captioned] | list[Question]:
        """The row's captioned media, or its question."""
        identity = str(_at(row, self.key)) if self.key else ""
        media = [self._medium(row, place, kind, name) for kind, name in self.media]
        if self.question:
            _at(row, self.question)
            answers = [answer for c in self.answers if c in row for answer in answers_of(row, [c])]
            parts = tuple(MediaPart(medium.modality, medium) for _, medium in media)
            return [Question(parts, question_text(row, self.question), tuple(answers), identity)]
        for column in self.captions:
            _at(row, column)
        captions = tuple(caption for column in self.captions for caption in captions_of(row, [column]))
        return [Captioned(medium.modality, name, captions, medium, identity=identity) for name, medium in media]

    @staticmethod
    def _medium(
        row: Mapping[str, Any], place: Place, kind: Modality | None, name: str | NamePattern
    ) -> tuple[str, Media]:
        value = name.fill(row) if isinstance(name, NamePattern) else _at(row, name)
        modality = kind or modality_by_ending(value)
        return value if isinstance(value, str) else f"{modality} of the row", place.media(modality, value)

    def medium(self, row: Mapping[str, Any]) -> str:
        """Name of the row's first medium; empty if the row holds the medium itself."""
        for _, name in self.media:
            value = name.fill(row) if isinstance(name, NamePattern) else row.get(name)
            return str(value) if isinstance(value, str | int) else ""
        return ""


def _at(row: Mapping[str, Any], column: str) -> Any:
    if column not in row:
        raise UserError(f"columns: the row has no column {column!r}{nearest(column, map(str, row))}")
    return row[column]


def layout_of_columns(given: Mapping[str, str | Sequence[str]]) -> Layout:
    """From the YAML's ``columns: {image: "{page_dir}/{videoid}.jpg", caption: [c1, c2]}``.

    Raises:
        UserError: a key is unknown, a value is no column, or neither captions nor a question are named.

    """
    for role, value in given.items():
        if role not in _ROLES:
            raise UserError(f"columns: {role!r} is nothing that a column can mean{nearest(role, _ROLES)}")
        if not isinstance(value, str) and role not in _LISTS:
            raise UserError(f"columns: {role}={value!r}: the name of one column is expected")
    media = tuple(
        (None if role == _FILE else Modality(role), _name(str(given[role]), role))
        for role in (*(m.value for m in MODALITIES), _FILE)
        if role in given
    )
    captions, answers = _listed(given, "caption"), _listed(given, "answer")
    question = str(given.get("question", ""))
    if bool(captions) == bool(question) or (captions and (answers or not media)):
        raise UserError(
            f"columns: {', '.join(given) or 'nothing'} is given; a medium and its caption, or a question and its "
            "answer are expected, such as {image: file, caption: text}"
        )
    reader = ColumnRow(media, captions, question, answers, str(given.get("key", "")))
    return Layout("columns", (), reader.columns, reader, medium=reader.medium, open=True)


def _listed(given: Mapping[str, str | Sequence[str]], role: str) -> tuple[str, ...]:
    value = given.get(role, ())
    return (value,) if isinstance(value, str) else tuple(value)


def _name(text: str, role: str) -> str | NamePattern:
    return NamePattern(text, f"columns: {role}") if "{" in text else text
