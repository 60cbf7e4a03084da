"""The tour's page: curves, captions, generated media, dialogues and the score table, in one folder to open or send."""

from __future__ import annotations

import csv
import html
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nextgpt_pl.media_files import save
from nextgpt_pl.modality import GENERATED, MODALITIES, Modality
from nextgpt_pl.verbs.score import table_rows

_STYLE = """body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; width: 100%; } td, th { border-bottom: 1px solid #8884; padding: .3rem .6rem;
text-align: left; vertical-align: top; } img, video { max-width: 100%; } .reply img { width: 8rem; }
.turn { margin: .2rem 0; } .user { opacity: .75; }"""
_TITLES = {
    "enc_align": "Stage 1: encoder alignment",
    "dec_align": "Stage 2: decoder alignment",
    "instruct": "Stage 3: instruction tuning",
}
# what is drawn of each stage's metrics.csv
_CURVES = {
    "enc_align": ("train/loss", "val/loss", "val/CIDEr-D"),
    "dec_align": ("train/loss_text", *(f"val/relative_mse_{m}" for m in GENERATED)),
    "instruct": ("train/loss_text", *(f"val/relative_mse_{m}" for m in GENERATED)),
}
_ROUTES = ("image->video", "audio->image", "image+text->image", "text->image+audio", "follow-up", "image->text")


@dataclass
class Tour:
    """What a tour has made.

    Attributes:
        folder: of the page.
        runs: run folder per stage.
        seconds: time per part.

    """

    folder: Path
    runs: dict[str, Path] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


def write_page(tour: Tour, record: Mapping[str, Any]) -> Path:
    """Write ``index.html`` into the tour's folder; the pictures lie beside it."""
    sections = [_scores(record), _times(tour)]
    for stage, run in tour.runs.items():
        sections += [f"<h2>{_TITLES[stage]}</h2>", _curves(tour, stage, run), _captions(run), _samples(tour, run)]
    sections += ["<h2>Dialogues</h2>", *_dialogues(tour)]
    page = tour.folder / "index.html"
    head = f"<meta charset='utf-8'><title>nextgpt_pl tour</title><style>{_STYLE}</style>"
    body = "\n".join(sections)
    page.write_text(f"<!doctype html><html lang='en'><head>{head}</head><body><h1>Tour</h1>\n{body}\n</body></html>\n")
    return page


def _table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    def line(cells: Sequence[Any], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(str(c))}</{tag}>" for c in cells) + "</tr>"

    return "<table>" + line(header, "th") + "".join(line(row, "td") for row in rows) + "</table>"


def _scores(record: Mapping[str, Any]) -> str:
    about = f"Held-out combinations of attributes, {record['count']} dialogues a row, read by exact judges."
    return f"<h2>Scores</h2><p>{about}</p>" + _table(("route", "measure", "result"), table_rows(record))


def _times(tour: Tour) -> str:
    return "<h2>Time</h2>" + _table(("part", "seconds"), [(n, f"{s:.0f}") for n, s in tour.seconds.items()])


def _curves(tour: Tour, stage: str, run: Path) -> str:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with (run / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    figure = Figure(figsize=(9, 2.6), layout="constrained")
    FigureCanvasAgg(figure)
    names = [n for n in _CURVES[stage] if any(row.get(n) for row in rows)]
    axes: Any = figure.subplots(1, max(1, len(names)), squeeze=False)[0]
    for axis, name in zip(axes, names, strict=False):
        points = [(int(row["step"]), float(row[name])) for row in rows if row.get(name)]
        axis.plot(*zip(*points, strict=True), marker="." if len(points) < 8 else None)
        axis.set_title(name, fontsize=9)
        axis.set_xlabel("step", fontsize=8)
        axis.set_ylim(bottom=0)
    figure.savefig(tour.folder / f"{stage}_curves.png", dpi=110)
    return f"<img src='{stage}_curves.png' alt='curves of {stage}'>"


def _last(run: Path, pattern: str) -> list[Path]:
    """The files of a pattern in the last sample folder that has any."""
    folders = sorted({file.parent for file in run.glob(f"samples/*/{pattern}")})
    return sorted(folders[-1].glob(pattern)) if folders else []


def _captions(run: Path) -> str:
    files = _last(run, "captions.tsv")
    if not files:
        return ""
    with files[0].open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))[:12]
    return _table(("item", "the model says", "a right caption"), [tuple(row.values()) for row in rows])


def _samples(tour: Tour, run: Path) -> str:
    files = [f for m in GENERATED for f in _last(run, f"{m}.png")]
    return "".join(f"<img src='{_relative(f, tour.folder)}' alt='{f.stem}s'>" for f in files)


def _relative(file: Path, folder: Path) -> str:
    return html.escape(Path(os.path.relpath(file.resolve(), folder.resolve())).as_posix(), quote=True)


def _dialogues(tour: Tour) -> list[str]:
    from nextgpt_pl.pipeline import AnyToAny
    from nextgpt_pl.pocket import dialogues
    from nextgpt_pl.pocket.routes import messages_of

    model = AnyToAny.from_run(tour.runs["instruct"])
    found = []
    folder = tour.folder / "media"
    folder.mkdir(exist_ok=True)
    for number, route in enumerate(_ROUTES):
        dialogue = dialogues.dialogue(route, "heldout", 1000 + number)
        lines = [f"<h3>{html.escape(route)}</h3>"]
        parts = [(m["role"], p) for m in messages_of(dialogue) for p in m["content"]]
        for index, (role, part) in enumerate(parts):
            lines.append(_turn(role, _shown(part, folder / f"{number}_{index}_in", tour.folder)))
        for index, made in enumerate(model.batch([messages_of(dialogue)], seed=number)[0]):
            shown = {"type": made.type, made.type: made.text if made.type == "text" else made}
            lines.append(_turn("model", _shown(shown, folder / f"{number}_{index}_out", tour.folder)))
        found.append("\n".join(lines))
    return found


def _turn(role: str, content: str) -> str:
    return f"<div class='turn {role}'><b>{role}:</b> {content}</div>"


def _shown(part: Mapping[str, Any], stem: Path, page: Path) -> str:
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
    source = _relative(path, page)
    return f"<audio controls src='{source}'></audio>" if modality is Modality.AUDIO else f"<img src='{source}' alt=''>"
