"""Replies as the texts that tasks of lmms-eval score."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from nextgpt_pl.media.writing import save_exactly
from nextgpt_pl.modality import GENERATED, MODALITIES, Modality
from nextgpt_pl.samples import ReplyPart


def text_with_placeholders(reply: Sequence[ReplyPart], until: Sequence[str]) -> str:
    """The reply's text, with a placeholder such as ``<image>`` for each medium."""
    marks = (part.text or "" if part.type == "text" else MODALITIES[Modality(part.type)].placeholder for part in reply)
    return cut(" ".join(filter(None, marks)), until)


def text_and_files(reply: Sequence[ReplyPart], until: Sequence[str], stem: Path) -> str:
    """The reply as the JSON object that image generation tasks of lmms-eval read; its media are written.

    Args:
        reply: the reply.
        until: texts at which its text ends.
        stem: path of the files, without the medium's number and file ending.

    Returns:
        ``{"text": ..., "images": [PATH, ...]}``, with further keys ``videos`` and ``audios`` where there are any.

    """
    text = cut(" ".join(part.text for part in reply if part.type == "text" and part.text), until)
    files: dict[str, list[str]] = {f"{modality}s": [] for modality in GENERATED}
    for number, part in enumerate(part for part in reply if part.array is not None):
        assert part.array is not None
        path = save_exactly(part.array, Modality(part.type), stem.with_name(f"{stem.name}_{number}"), part.rate)
        files[f"{part.type}s"].append(str(path))
    kept = {key: paths for key, paths in files.items() if paths or key == f"{Modality.IMAGE}s"}
    return json.dumps({"text": text, **kept}, ensure_ascii=False)


def cut(text: str, until: Sequence[str]) -> str:
    """The text before the first stop.

    >>> cut("a red star. And more", [".", "And"])
    'a red star'

    """
    return text[: min((at for stop in until if (at := text.find(stop)) >= 0), default=len(text))]
