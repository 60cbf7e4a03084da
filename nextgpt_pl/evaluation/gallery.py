"""Dialogues of the pocket world answered by a run, as HTML: what was asked and shown, what came back."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nextgpt_pl.media.writing import save
from nextgpt_pl.modality import MODALITIES, Modality
from nextgpt_pl.reports.document import Medium

#: one of each kind of any-to-any reply
ROUTES = ("image->video", "audio->image", "image+text->image", "text->image+audio", "follow-up", "image->text")


def dialogues(
    run: Path,
    folder: Path,
    routes: Sequence[str] = ROUTES,
    first: int = 1000,
    inline: bool = False,
    trust: Sequence[str] = (),
) -> list[str]:
    """A section of HTML per route; media are written to ``folder/media``.

    Args:
        run: folder of the run.
        folder: of the page that the sections are for.
        routes: of :mod:`nextgpt_pl.pocket.world.dialogues`.
        first: number of the first held-out dialogue; each route takes the next.
        inline: whether the sections hold the media themselves, as a notebook needs it.
        trust: dotted names of classes outside this package that the run may name, such as my_package.MyEncoder.

    """
    from nextgpt_pl.evaluation.pocket_routes import messages_of
    from nextgpt_pl.pipeline import AnyToAny
    from nextgpt_pl.pocket.world.dialogues import dialogue

    model = AnyToAny.from_run(run, trust=trust)
    media = folder / "media"
    media.mkdir(parents=True, exist_ok=True)
    page = None if inline else folder
    found = []
    for number, route in enumerate(routes):
        messages = messages_of(dialogue(route, "heldout", first + number))
        lines = [f"<h3>{html.escape(route)}</h3>"]
        parts = [(message["role"], part) for message in messages for part in message["content"]]
        for index, (role, part) in enumerate(parts):
            lines.append(_turn(role, _shown(part, media / f"{number}_{index}_in", page)))
        for index, made in enumerate(model.batch([messages], seed=number)[0]):
            part = {"type": made.type, made.type: made.text if made.type == "text" else made}
            lines.append(_turn("model", _shown(part, media / f"{number}_{index}_out", page)))
        found.append("\n".join(lines))
    return found


def _turn(role: str, content: str) -> str:
    return f"<div class='turn {role}'><b>{role}:</b> {content}</div>"


def _shown(part: Mapping[str, Any], stem: Path, page: Path | None) -> str:
    """A part as HTML; media are written beside the page."""
    if part["type"] == "text":
        return html.escape(part["text"])
    modality, medium = Modality(part["type"]), part[part["type"]]
    if hasattr(medium, "array"):
        array, rate = medium.array, medium.rate
    elif callable(medium.source):
        array, rate = medium.source(), medium.sample_rate or medium.fps
    else:
        return f"[the {modality} of the reply before]"
    path = stem.with_suffix(".gif" if modality is Modality.VIDEO else MODALITIES[modality].sample_suffix)
    save(array, modality, path, rate)
    return Medium(path).html(page)
