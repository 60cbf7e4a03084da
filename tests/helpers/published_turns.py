"""Turns of conversations, as data sets write them and as tests compare them."""

import io
from pathlib import Path

import numpy as np
from PIL import Image

from nextgpt_pl.samples import TextPart


def turns(dialogue):
    """Each turn as one text; media as ``[image 0.png]`` if they are shown, ``[image: caption]`` if they are made."""
    return [f"{message.role}: " + "".join(map(_part, message.parts)) for message in dialogue.messages]


def _part(part):
    if isinstance(part, TextPart):
        return part.text
    if part.caption is not None:
        return f"[{part.modality}: {part.caption}]"
    source = part.media.source
    name = source.name if isinstance(source, Path) else str(source).rpartition(": ")[2]
    seconds = "" if part.media.start is None else f" {part.media.start:g}-{part.media.end:g}"
    return f"[{part.modality} {Path(name).name}{seconds}]"


def exchange(*texts):
    """Turns with ``from`` and ``value``, the user's first."""
    return [{"from": ("human", "gpt")[i % 2], "value": text} for i, text in enumerate(texts)]


def messages(*contents):
    """Turns with ``role`` and ``content``, the user's first."""
    return [{"role": ("user", "assistant")[i % 2], "content": content} for i, content in enumerate(contents)]


def png(level=0):
    file = io.BytesIO()
    Image.fromarray(np.full((16, 16, 3), level, np.uint8)).save(file, "PNG")
    return file.getvalue()
