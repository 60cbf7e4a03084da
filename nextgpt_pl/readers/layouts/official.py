"""The official NExT-GPT files as its code reads them: pairs, and dialogues with media on both sides."""

from __future__ import annotations

from typing import Any

from nextgpt_pl.dialogue.conversation import parts_of
from nextgpt_pl.errors import UserError
from nextgpt_pl.modality import MODALITIES, Modality
from nextgpt_pl.readers.model import Captioned, Talk
from nextgpt_pl.readers.place import Place
from nextgpt_pl.readers.turns import in_order, placeholders, role_of, text_of, turns_of, with_placeholder
from nextgpt_pl.readers.values import take
from nextgpt_pl.samples import MediaPart, Message

# the columns that name media: modality and kind of each, in the order in which they are read
_COLUMNS = {
    key: (modality, kind)
    for modality in MODALITIES
    for kind, key in (
        ("output", f"output_{modality}"),
        ("input", f"input_{modality}"),
        ("name", f"{modality}_name"),
    )
}
_ORDER = {key: position for position, key in enumerate(_COLUMNS)}


def pairs(row: dict[str, Any], place: Place) -> list[Captioned]:
    """``*_generation.json``, ``*_comprehension.json`` and ``{caption, X_name}`` lists: one record per medium."""
    instruction, answer = _exchange(row)
    records: list[Captioned] = []
    for key in sorted(_COLUMNS.keys() & row.keys(), key=_ORDER.__getitem__):
        modality, kind = _COLUMNS[key]
        names = take(row, key, optional=True)
        if not names:
            continue
        captions = _captions(row, modality, kind, answer)
        if len(captions) != len(names):
            raise UserError(f"{len(names)} files in {key}, but {len(captions)} captions")
        vectors = take(row, f"{modality}_caption_embeddings", optional=True) if kind == "output" else []
        if kind == "name" and place.plain_embeddings:
            vectors = [f"{name}.npy" for name in names]
        for index, (name, caption) in enumerate(zip(names, captions, strict=True)):
            record = Captioned(
                modality,
                name,
                (caption,),
                place.media(modality, name),
                embeddings=(place.embedding(vectors, index),),
                instruction=instruction if kind == "output" else None,
                question=instruction if kind == "input" else None,
                response=answer if kind == "output" and len(names) == 1 else None,
            )
            records.append(record)
    if not records:
        raise UserError(f"no medium: keys are {sorted(row)}, one of output_X, input_X, X_name is expected")
    return records


def _exchange(row: dict[str, Any]) -> tuple[str | None, str | None]:
    """First question and first answer of a row's conversation."""
    turns = row.get("conversations")
    if turns is None:
        return None, None
    try:
        human = next(t["value"] for t in turns if t["from"] == "human")
        answer = next(t["value"] for t in turns if t["from"] == "gpt")
    except (StopIteration, KeyError, TypeError) as error:
        raise UserError("conversations lacks a turn from 'human' or one from 'gpt'") from error
    return str(human), str(answer)


def _captions(row: dict[str, Any], modality: Modality, kind: str, answer: str | None) -> list[str]:
    """Captions of a row's media: beside outputs, the answer to a question about an input, or a plain caption."""
    if kind == "output":
        return take(row, f"{modality}_captions")
    if kind == "name":
        return take(row, "caption")
    if answer is None:
        raise UserError(f"input_{modality} without conversations: there is no caption to learn")
    return [answer]


def dialogue(row: dict[str, Any], place: Place) -> list[Talk]:
    """T+X to T, T to T+X and MosIT.

    The human's media are taken from ``input_X`` (or ``X``) in order, the assistant's from ``output_X`` with
    ``X_captions`` and ``X_caption_embeddings``; each is one value or a list. A single input medium without a
    placeholder is put before the first question, a single output medium after the last answer.
    """
    turns = [(role_of(t), text_of(t)) for t in turns_of(row, "conversations")]
    inputs, outputs = _inputs(row, place), _outputs(row, place)
    turns = with_placeholder(turns, "user", inputs, first=True)
    turns = with_placeholder(turns, "assistant", outputs, first=False)
    messages = []
    for role, text in turns:
        media = outputs if role == "assistant" else inputs
        count = len(placeholders(text))
        turn_media, media[:] = media[:count], media[count:]
        messages.append(Message(role, parts_of(text, turn_media, role)))
    if inputs or outputs:
        raise UserError(f"{len(inputs)} input and {len(outputs)} output media have no placeholder in a turn")
    return [Talk(tuple(messages))]


def _inputs(row: dict[str, Any], place: Place) -> list[MediaPart]:
    names = [(m, n) for m in MODALITIES for key in (f"input_{m}", m.value) for n in take(row, key, optional=True)]
    return in_order([MediaPart(m, place.media(m, name)) for m, name in names], row, "user")


def _outputs(row: dict[str, Any], place: Place) -> list[MediaPart]:
    parts = []
    for modality in MODALITIES:
        names = take(row, f"output_{modality}", optional=True)
        captions = take(row, f"{modality}_captions", optional=True)
        vectors = take(row, f"{modality}_caption_embeddings", optional=True)
        if names and len(captions) != len(names):
            raise UserError(f"{len(names)} files in output_{modality}, but {len(captions)} captions")
        for index, caption in enumerate(captions):
            medium = place.optional_media(modality, names[index]) if names else None
            parts.append(MediaPart(modality, medium, caption, place.embedding(vectors, index)))
    return in_order(parts, row, "assistant")
