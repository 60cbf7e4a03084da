"""Rows in the official MosIT layout, their media files, and the JSON of a finished data set."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nextgpt_pl.building.journal import DialogueRecord, records
from nextgpt_pl.building.media import Found
from nextgpt_pl.building.plans import Plan
from nextgpt_pl.media.clips import is_clip
from nextgpt_pl.media.reading import array_of
from nextgpt_pl.media.writing import save_exactly
from nextgpt_pl.modality import MODALITIES
from nextgpt_pl.samples import MediaPart, Message
from nextgpt_pl.utils.atomic import atomic_file

FILE = "mosit_instruction_tuning.json"
SCRATCH = ".scratch"
_SPEAKERS = {"user": "human", "assistant": "gpt"}


def media_of(messages: Sequence[Message]) -> list[tuple[str, MediaPart]]:
    """The media of a dialogue in order, each with its role."""
    return [(m.role, part) for m in messages for part in m.parts if isinstance(part, MediaPart)]


@contextmanager
def scratch_folder(folder: Path) -> Iterator[Path]:
    """An empty folder for media that are being written; removed at the end."""
    scratch = folder / SCRATCH
    shutil.rmtree(scratch, ignore_errors=True)  # of a killed process
    scratch.mkdir()
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def turns_of(messages: Sequence[Message]) -> list[dict[str, str]]:
    """The ``conversations`` of a row."""
    return [{"from": _SPEAKERS[m.role], "value": _value(m)} for m in messages]


def user_text(turns: Sequence[Mapping[str, str]]) -> str:
    """All messages of the user among the turns of a row."""
    return "\n".join(turn["value"] for turn in turns if turn["from"] == _SPEAKERS["user"])


def write_row(plan: Plan, messages: Sequence[Message], found: Sequence[Found], folder: Path) -> dict[str, Any]:
    """Write the media of a dialogue below ``folder``, and return its row.

    Files are named by the numbers of the dialogue and the medium only; nothing that the LLM wrote is in a path.

    Args:
        plan: the request of the dialogue.
        messages: the dialogue.
        found: its media in order.
        folder: folder of the data set, with its :func:`scratch_folder`.

    """
    row: dict[str, Any] = {"id": plan.number, "conversations": turns_of(messages)}
    for index, ((role, part), result) in enumerate(zip(media_of(messages), found, strict=True)):
        name = _write_medium(result, folder, f"{plan.number:06}_{index}")
        row.setdefault(f"{'input' if role == 'user' else 'output'}_{part.modality}", []).append(name)
        if role == "assistant":
            row.setdefault(f"{part.modality}_captions", []).append(result.caption)
    return row


def _value(message: Message) -> str:
    parts = (MODALITIES[p.modality].placeholder if isinstance(p, MediaPart) else p.text for p in message.parts)
    return " ".join(parts)


def _write_medium(found: Found, folder: Path, stem: str) -> str:
    """Copy a medium's file, or write what is no file of its own without loss; returns the name below ``folder``."""
    # encoders choose a format by the file ending, so the temporary file has the final name, in a temporary folder
    scratch, target = folder / SCRATCH, folder / f"{found.medium.modality}s"
    target.mkdir(exist_ok=True)
    if isinstance(found.medium.source, Path) and not is_clip(found.medium):
        file = scratch / f"{stem}{found.medium.source.suffix.lower()}"
        shutil.copyfile(found.medium.source, file)
    else:
        array, rate = array_of(found.medium)
        file = save_exactly(array, found.medium.modality, scratch / stem, rate)
    file.replace(target / file.name)
    return file.name


def kept_rows(folder: Path) -> Iterator[dict[str, Any]]:
    """The rows of all kept dialogues in a folder's journal."""
    for record in records(folder):
        if isinstance(record, DialogueRecord) and record.row is not None:
            yield record.row


def write_rows(folder: Path) -> Path:
    """Write the JSON of all kept dialogues, atomically; returns its path."""
    path = folder / FILE
    with atomic_file(path) as scratch, scratch.open("w", encoding="utf-8") as file:
        separator = "[\n"
        for row in kept_rows(folder):
            file.write(separator + json.dumps(row, ensure_ascii=False))
            separator = ",\n"
        file.write("\n]\n" if separator == ",\n" else "[]\n")
    return path
