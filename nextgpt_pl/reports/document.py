"""A page of headings, text, tables and pictures, written as Markdown and as HTML; media are files beside it."""

from __future__ import annotations

import base64
import io
import mimetypes
import os
import shutil
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment
from markupsafe import Markup

from nextgpt_pl.modality import Modality, modality_of_file
from nextgpt_pl.utils.atomic import write_atomic
from nextgpt_pl.utils.escaping import markdown, markdown_target
from nextgpt_pl.utils.templates import html_templates

STYLE = """body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; width: 100%; } td, th { border-bottom: 1px solid #8884; padding: .3rem .6rem;
text-align: left; vertical-align: top; } img, video { max-width: 100%; } .reply img { width: 8rem; }
.turn { margin: .2rem 0; } .user { opacity: .75; } td img { width: 8rem; image-rendering: pixelated; }
td audio { width: 11rem; } .wide { overflow-x: auto; }"""


@dataclass(frozen=True)
class Medium:
    """A picture or sound in a page: a file beside it."""

    file: Path
    words: str = ""

    @property
    def modality(self) -> Modality | None:
        """The modality by the file's ending; ``None``: the ending is not known."""
        with suppress(ValueError):
            return modality_of_file(self.file.name)
        return None

    def markdown(self, folder: Path) -> str:
        """An embedded image or video, or a link to another file."""
        picture = self.modality not in (None, Modality.AUDIO)
        words, target = markdown(self.words or self.file.stem), markdown_target(relative(self.file, folder))
        return f"{'!' if picture else ''}[{words}]({target})"

    def html(self, folder: Path | None) -> Markup:
        """An image, an audio player, or the name of another file; without a folder, the data are in the page."""
        if self.modality is None:
            return Markup.escape(self.file.name)
        if folder is None:
            source = _data(self.file.read_bytes(), mimetypes.guess_type(self.file.name)[0])
        else:
            source = relative(self.file, folder)
        if self.modality is Modality.AUDIO:
            return html_blocks().sound(source)
        return html_blocks().picture(source, self.words)


@dataclass(frozen=True)
class Table:
    """Rows of text and media."""

    header: Sequence[str]
    rows: Sequence[Sequence[Any]]


@dataclass(frozen=True)
class Heading:
    """A section's title."""

    text: str


Block = Heading | Table | Medium | str


@dataclass
class Document:
    """Blocks in order.

    Args:
        title: title of the page.
        folder: output folder; media are copied to it.

    """

    title: str
    folder: Path
    blocks: list[Block] = field(default_factory=list)

    def add(self, *blocks: Block) -> None:
        """Append blocks."""
        self.blocks += blocks

    def keep(self, file: Path, name: str, words: str = "") -> Medium:
        """Copy a medium to the folder, so that the folder can be moved; media in the folder are not copied."""
        if file.resolve().is_relative_to(self.folder.resolve()):
            return Medium(file, words)
        target = self.folder / "media" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)
        return Medium(target, words)

    def draw(self, figure: Any, name: str, words: str) -> None:
        """Append a figure, saved beside the page."""
        self.folder.mkdir(parents=True, exist_ok=True)
        figure.savefig(self.folder / name, dpi=110)
        self.add(Medium(self.folder / name, words))

    def write(self, stem: str = "index") -> Path:
        """Write ``stem.md`` and ``stem.html``; returns the latter."""
        self.folder.mkdir(parents=True, exist_ok=True)
        text = "\n\n".join([f"# {markdown(self.title)}", *(_markdown(block, self.folder) for block in self.blocks)])
        # atomic, and never through a link in a folder of a third party
        write_atomic(self.folder / f"{stem}.md", text + "\n")
        page = self.folder / f"{stem}.html"
        write_atomic(page, html_page(self.title, [_html(b, self.folder) for b in self.blocks]))
        return page


def _markdown(block: Block, folder: Path) -> str:
    if isinstance(block, str):
        return markdown(block)
    if isinstance(block, Heading):
        return f"## {markdown(block.text)}"
    return block.markdown(folder) if isinstance(block, Medium) else markdown_table(block.header, block.rows, folder)


def markdown_table(header: Sequence[Any], rows: Iterable[Sequence[Any]], folder: Path = Path()) -> str:
    """A table; text is escaped unless it is :class:`Markdown`, and media paths are relative to ``folder``."""

    def line(cells: Iterable[Any]) -> str:
        return "| " + " | ".join(c.markdown(folder) if isinstance(c, Medium) else markdown(c) for c in cells) + " |"

    return "\n".join([line(header), "|" + " --- |" * len(header), *map(line, rows)])


def _html(block: Block, folder: Path) -> Markup:
    if isinstance(block, str):
        return html_blocks().text(block)
    if isinstance(block, Heading):
        return html_blocks().heading(block.text)
    return block.html(folder) if isinstance(block, Medium) else html_table(block.header, block.rows, folder)


def html_table(header: Sequence[Any], rows: Iterable[Sequence[Any]], folder: Path = Path()) -> Markup:
    """A table; text is escaped, media are named relative to ``folder``."""
    return html_blocks().table(header, rows, folder)


def html_page(title: str, sections: Iterable[Markup]) -> str:
    """A complete page without external files; a section that is not :class:`Markup` is escaped."""
    page = _templates().get_template("page.html")
    return page.render(title=title, style=Markup(STYLE), sections=sections)


@cache
def _templates() -> Environment:
    templates = html_templates("nextgpt_pl.reports")
    templates.globals["show"] = lambda cell, folder: cell.html(folder) if isinstance(cell, Medium) else str(cell)
    return templates


def html_blocks() -> Any:
    """The macros of ``blocks.html`` as functions that return :class:`Markup`."""
    return _templates().get_template("blocks.html").module


def relative(file: Path, folder: Path) -> str:
    """A file's path from a folder, with slashes."""
    return Path(os.path.relpath(file.resolve(), folder.resolve())).as_posix()


def html_figure(figure: Any, words: str) -> Markup:
    """A figure that is embedded in the page."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return html_blocks().picture(_data(buffer.getvalue(), "image/png"), words)


def _data(content: bytes, kind: str | None) -> str:
    return f"data:{kind or 'application/octet-stream'};base64,{base64.b64encode(content).decode()}"
