"""The report of an evaluation: our numbers, the paper's, and samples to look at, as Markdown and HTML."""

from __future__ import annotations

import html
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nextgpt_pl.evaluation import records
from nextgpt_pl.evaluation.records import Prediction
from nextgpt_pl.evaluation.run import estimate
from nextgpt_pl.media import array_of
from nextgpt_pl.media_files import save_video
from nextgpt_pl.modality import Modality
from nextgpt_pl.verbs.page import STYLE, table

_HEADER = ("task", "score", "ours", "95% interval", "paper", "difference", "items")
_SAMPLES = 4  # of each task


def rows(record: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """One row per number, as text; what could not be computed says why."""
    found: list[tuple[str, ...]] = []
    for task, result in record["tasks"].items():
        for name, value in result["scores"].items():
            ours = estimate(value)
            interval = "" if ours.low is None else f"{ours.low:.4g} to {ours.high:.4g}"
            paper = result["paper"].get(name)
            theirs = ("", "") if paper is None else (f"{paper:g}", f"{ours.value - paper:+.4g}")
            found.append((task, name, f"{ours.value:.4g}", interval, *theirs, str(ours.count)))
        found += [(task, name, "not computed", why, "", "", "") for name, why in result["failed"].items()]
    return found


def write(record: Mapping[str, Any], settings: Mapping[str, Any], folder: Path) -> tuple[Path, Path]:
    """``report.md`` and ``report.html``; pictures lie in ``report/``."""
    lines = [f"- {name}: {value}" for name, value in settings.items()]
    body = rows(record)
    markdown = ["# Evaluation", "", *lines, "", _markdown_row(_HEADER), _markdown_row(["---"] * len(_HEADER))]
    markdown += [_markdown_row(row) for row in body]
    (folder / "report.md").write_text("\n".join(markdown) + "\n", encoding="utf-8")
    items = "".join(f"<li>{html.escape(line[2:])}</li>" for line in lines)
    sections = [f"<h1>Evaluation</h1><ul>{items}</ul>", table(_HEADER, body)]
    predictions = records.read(folder)
    for task in record["tasks"]:
        own = [p for p in predictions if p.task == task][:_SAMPLES]
        sections += [f"<h2>{html.escape(task)}</h2>", *(_sample(p, folder) for p in own)]
    head = f"<meta charset='utf-8'><title>Evaluation</title><style>{STYLE}</style>"
    page = f"<!doctype html><html lang='en'><head>{head}</head><body>" + "\n".join(sections) + "</body></html>\n"
    (folder / "report.html").write_text(page, encoding="utf-8")
    return folder / "report.md", folder / "report.html"


def _markdown_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _sample(prediction: Prediction, folder: Path) -> str:
    lines = [("asked", "user", html.escape(prediction.asked))]
    lines.append(("model", "", " ".join(_part(part, folder) for part in prediction.reply)))
    if prediction.references:
        lines.append(("right", "", html.escape(prediction.references[0])))
    return "".join(f"<div class='turn {style}'><b>{who}:</b> {what}</div>" for who, style, what in lines)


def _part(part: Mapping[str, Any], folder: Path) -> str:
    if part["type"] == "text":
        return html.escape(part["text"])
    path = folder / part["file"]
    if part["type"] == Modality.AUDIO.value:
        return f"<audio controls src='{_link(path, folder)}'></audio>"
    if part["type"] == Modality.VIDEO.value:  # browsers play no FFV1
        frames, rate = array_of(records.as_media(folder, part))
        path = folder / "report" / f"{path.parent.name}_{path.stem}.gif"
        path.parent.mkdir(exist_ok=True)
        save_video(frames, path, rate or 1.0)
    return f"<img class='reply' src='{_link(path, folder)}' alt=''>"


def _link(path: Path, folder: Path) -> str:
    return html.escape(Path(os.path.relpath(path, folder)).as_posix(), quote=True)
