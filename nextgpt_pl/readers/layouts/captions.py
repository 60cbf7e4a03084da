"""Media with captions: manifests of file and caption."""

from __future__ import annotations

from typing import Any

from nextgpt_pl.errors import UserError
from nextgpt_pl.modality import modality_of_file
from nextgpt_pl.readers.model import Captioned
from nextgpt_pl.readers.place import Place
from nextgpt_pl.readers.values import take


def manifest(row: dict[str, Any], place: Place) -> list[Captioned]:
    """``file`` or ``file_name``, and ``caption``, ``text`` or a list ``captions``; the ending tells the modality."""
    name = (take(row, "file", optional=True) or take(row, "file_name"))[0]
    captions = take(row, "caption", optional=True) or take(row, "captions", optional=True) or take(row, "text")
    try:
        modality = modality_of_file(name)
    except ValueError as error:
        raise UserError(str(error)) from error
    return [Captioned(modality, name, tuple(captions), place.media(modality, name))]
