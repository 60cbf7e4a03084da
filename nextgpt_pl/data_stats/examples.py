"""Example rows of a source, with small pictures of their media."""

from __future__ import annotations

import numpy as np
from markupsafe import Markup
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from nextgpt_pl.data_stats.part import Part
from nextgpt_pl.data_stats.rows import printable
from nextgpt_pl.dialogue.conversation import Conversation
from nextgpt_pl.errors import UserError
from nextgpt_pl.media.plots import draw_media
from nextgpt_pl.media.reading import array_of, frames_of
from nextgpt_pl.modality import Modality
from nextgpt_pl.reports.document import html_blocks, html_figure
from nextgpt_pl.samples import MediaPart
from nextgpt_pl.samples import Part as MessagePart

_ROWS = 3
_FRAMES = 4
_WIDTH, _HEIGHT = 1.6, 1.5  # inches of an image


def example_rows(part: Part, conversation: Conversation) -> list[Markup]:
    """A few random rows of a part as the stage shows them: a key, then a line per message."""
    usable = part.rows["row"]
    chosen = np.random.default_rng(0).choice(usable, min(_ROWS, len(usable)), replace=False)
    blocks = []
    for row in np.sort(chosen).tolist():
        try:
            item = part.items[row]
        except UserError as error:  # a file has vanished
            blocks.append(html_blocks().text(printable(str(error))))
            continue
        lines = [html_blocks().text(item.key)]
        for message in conversation.as_dialogue(item).messages:
            content = Markup(" ").join(_shown(piece) for piece in message.parts)
            lines.append(html_blocks().turn(message.role, content))
        blocks.append(Markup("\n").join(lines))
    return blocks


def _shown(piece: MessagePart) -> str:
    """A text, or a medium as a picture with its caption."""
    if not isinstance(piece, MediaPart):
        return printable(piece.text)
    words = printable(f"[{piece.modality}{f': {piece.caption}' if piece.caption else ''}]")
    if piece.media is None:
        return words
    try:
        if piece.modality is Modality.VIDEO:
            array, rate = frames_of(piece.media, _FRAMES, repeat=False), None
        else:
            array, rate = array_of(piece.media)
    except UserError as error:
        return printable(f"{words} {error}")
    width = _WIDTH * (_FRAMES if piece.modality is Modality.VIDEO else 1)
    figure = Figure(figsize=(width, _HEIGHT), layout="constrained")
    FigureCanvasAgg(figure)
    draw_media(figure.subplots(), piece.modality, array, int(rate or 1))
    return html_figure(figure, words)
