"""The official NExT-GPT files of pairs, as its code reads them."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from nextgpt_pl.errors import UserError
from nextgpt_pl.modality import MODALITIES, Modality
from nextgpt_pl.readers.layouts.base import keys
from nextgpt_pl.readers.model import Captioned
from nextgpt_pl.readers.place import Place
from nextgpt_pl.readers.values import exact_captions_of, take

KEYS = frozenset(
    key
    for m in MODALITIES
    for key in (f"input_{m}", f"output_{m}", f"{m}_captions", f"{m}_caption_embeddings", f"{m}_name", "conversations")
)
METADATA = keys("id audio_id source_data data_source output_modality")

# the columns that name media: modality and kind of each, in the order in which they are read
_COLUMNS = tuple(
    (key, modality, kind)
    for modality in MODALITIES
    for kind, key in (
        ("output", f"output_{modality}"),
        ("input", f"input_{modality}"),
        ("name", f"{modality}_name"),
    )
)


@lru_cache(1000)
def _columns(keys: tuple[str, ...]) -> tuple[tuple[str, Modality, str], ...]:
    """The columns of media that a row with these keys has; rows of a file have the same keys."""
    return tuple(column for column in _COLUMNS if column[0] in keys)


def pairs(row: dict[str, Any], place: Place) -> list[Captioned]:
    """``*_generation.json``, ``*_comprehension.json`` and ``{caption, X_name}`` lists: one record per medium."""
    instruction, answer = _exchange(row)
    records: list[Captioned] = []
    for key, modality, kind in _columns(tuple(row)):
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


def _captions(row: dict[str, Any], modality: Modality, kind: str, answer: str | None) -> tuple[str, ...]:
    """Captions of a row's media: beside outputs, the answer to a question about an input, or a plain caption."""
    if kind == "output":
        return exact_captions_of(row, [f"{modality}_captions"])
    if kind == "name":
        return exact_captions_of(row, ["caption"])
    if answer is None:
        raise UserError(f"input_{modality} without conversations: there is no caption to learn")
    return (answer,)
