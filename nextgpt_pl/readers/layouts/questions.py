"""Questions about media: VQAv2, MSVD-QA, MSRVTT-QA, and tables of question and answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from nextgpt_pl.errors import UserError
from nextgpt_pl.modality import Modality
from nextgpt_pl.readers.layouts.base import keys
from nextgpt_pl.readers.layouts.captioned_sets import text_at
from nextgpt_pl.readers.layouts.captions import MEDIUM_KEYS, modality_by_ending
from nextgpt_pl.readers.model import Question
from nextgpt_pl.readers.place import Place
from nextgpt_pl.samples import Media, MediaPart


def _image_names(identity: str, row: dict[str, Any]) -> list[str]:
    subset = str(row.get("data_subtype") or "").replace("test-dev2015", "test2015")
    if subset and identity.isdigit():
        name = f"COCO_{subset}_{int(identity):012d}.jpg"
        return [name, f"{subset}/{name}"]
    return [f"{identity}.jpg", f"{identity}.png"]


def _video_names(identity: str, row: dict[str, Any]) -> list[str]:
    # MSRVTT-QA and MSVD-QA number their videos
    stems = [f"video{identity}", f"vid{identity}", identity] if identity.isdigit() else [identity, f"v_{identity}"]
    return [f"{stem}{ending}" for stem in stems for ending in (".mp4", ".avi", ".mkv", ".webm")]


def _audio_names(identity: str, row: dict[str, Any]) -> list[str]:
    return [f"{identity}{ending}" for ending in (".wav", ".flac", ".mp3")]


#: keys of a medium's number or name, its modality, and the names of its file
IDENTITIES: dict[str, tuple[Modality, Callable[[str, dict[str, Any]], list[str]]]] = {
    "image_id": (Modality.IMAGE, _image_names),
    "video_id": (Modality.VIDEO, _video_names),
    "video_name": (Modality.VIDEO, _video_names),
    "audio_id": (Modality.AUDIO, _audio_names),
}
ANSWER_KEYS = ("answers", "answer", "multiple_choice_answer")
QUESTION_NEEDS = (
    *(keys(f"{medium} question") for medium in (*MEDIUM_KEYS, *IDENTITIES)),
    keys("question answer"),
    keys("question answers"),
)
QUESTION_KEYS = keys("question_id id") | set(ANSWER_KEYS)
QUESTION_METADATA = keys("question_type answer_type data_subtype category_id type confidence")


def answers_of(row: dict[str, Any], names: Sequence[str]) -> tuple[str, ...]:
    """The answers under the first of some keys that has a value: a text, or a list of texts or of objects with answer.

    No key, ``null`` and an empty list give none: the row is of a test set.

    Raises:
        UserError: an answer is something else.

    """
    value: Any = next((row[name] for name in names if row.get(name) not in (None, [])), [])
    answers = [a.get("answer") if isinstance(a, dict) else a for a in (value if isinstance(value, list) else [value])]
    for answer in answers:
        if isinstance(answer, bool) or not isinstance(answer, str | int | float):
            raise UserError(f"answer={answer!r:.80}: a text is expected")
    return tuple(str(answer).strip() for answer in answers)


def question_text(row: dict[str, Any], key: str = "question") -> str:
    """The text of a question.

    Raises:
        UserError: it is no text, or empty.

    """
    text = row.get(key)
    if not isinstance(text, str) or not text.strip():
        raise UserError(f"{key}={text!r:.80}: a text is expected")
    return text.strip()


def medium_name(row: Any) -> str:
    """The number or name of a row's medium."""
    return next((str(row[key]) for key in (*MEDIUM_KEYS, *IDENTITIES) if isinstance(row.get(key), str | int)), "")


def _media(row: dict[str, Any], place: Place) -> list[Media]:
    for key, kind in MEDIUM_KEYS.items():
        if row.get(key) is not None:
            return [place.media(kind or modality_by_ending(row[key]), row[key])]
    for key, (modality, names) in IDENTITIES.items():
        if row.get(key) is not None:
            identity = text_at(row, key)
            if place.media_name is not None:
                modality = modality_by_ending(place.media_name.text)
            # media_name may name the medium without knowing which key it has
            return [place.named(modality, {"medium_id": row[key], **row}, names(identity, row))[1]]
    return []


def question(row: dict[str, Any], place: Place) -> list[Question]:
    """``question``, its medium, and ``answer`` or a list ``answers``, which a test set lacks."""
    media = tuple(MediaPart(medium.modality, medium) for medium in _media(row, place))
    identity = row.get("question_id", row.get("id", ""))
    return [Question(media, question_text(row), answers_of(row, ANSWER_KEYS), str(identity))]
