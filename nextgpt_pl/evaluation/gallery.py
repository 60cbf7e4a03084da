"""Dialogues of the pocket world with the replies of a run, as HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from markupsafe import Markup

from nextgpt_pl.evaluation import records
from nextgpt_pl.evaluation.pocket import PocketRoute
from nextgpt_pl.evaluation.run import predict
from nextgpt_pl.media.reading import array_of
from nextgpt_pl.media.writing import save
from nextgpt_pl.modality import MODALITIES, Modality
from nextgpt_pl.pipeline import AnyToAny
from nextgpt_pl.reports.document import Medium, html_blocks
from nextgpt_pl.samples import Media

#: routes of all kinds of any-to-any replies
ROUTES = ("image->video", "audio->image", "image+text->image", "text->image+audio", "follow-up", "image->text")


def dialogues(
    run: Path,
    folder: Path,
    routes: Sequence[str] = ROUTES,
    first: int = 1000,
    inline: bool = False,
    trust: Sequence[str] = (),
) -> list[Markup]:
    """A section of HTML per route; media are written to ``folder/media``.

    Args:
        run: folder of the run.
        folder: folder of the page.
        routes: routes of :mod:`nextgpt_pl.pocket.world.dialogues`.
        first: index of the first held-out dialogue; each route uses the next one.
        inline: embed the media in the sections, for notebooks.
        trust: dotted names of classes outside this package that the run may name, such as my_package.MyEncoder.

    """
    model = AnyToAny.from_run(run, trust=trust)
    media = folder / "media"
    media.mkdir(parents=True, exist_ok=True)
    page = None if inline else folder
    tasks = [PocketRoute(route, [], count=1, first=first + number) for number, route in enumerate(routes)]
    sections = []
    with TemporaryDirectory() as name:
        predict(model, tasks, Path(name), temperature=0.0, seed=0)
        for number, (task, prediction) in enumerate(zip(tasks, records.read(Path(name)), strict=True)):
            lines = [html_blocks().subheading(task.route)]
            messages = next(task.items()).messages
            parts = [(message["role"], part) for message in messages for part in message["content"]]
            for index, (role, part) in enumerate(parts):
                lines.append(
                    html_blocks().turn(role, _shown(part, part.get(part["type"]), media / f"{number}_{index}_in", page))
                )
            for index, part in enumerate(prediction.reply):
                shown = part["text"] if part["type"] == "text" else records.as_media(Path(name), part)
                lines.append(html_blocks().turn("model", _shown(part, shown, media / f"{number}_{index}_out", page)))
            sections.append(Markup("\n").join(lines))
    return sections


def _shown(part: Mapping[str, Any], shown: str | Media, stem: Path, page: Path | None) -> str:
    """A part as text or as HTML of a medium; media are written beside the page."""
    if isinstance(shown, str):
        return shown
    if part.get("caption") is not None:  # of an earlier reply, which the prompt holds as signal tokens
        return f"[the {shown.modality} of the reply before]"
    array, rate = array_of(shown)
    suffix = ".gif" if shown.modality is Modality.VIDEO else MODALITIES[shown.modality].sample_suffix
    path = stem.with_suffix(suffix)
    save(array, shown.modality, path, rate)
    return Medium(path).html(page)
