"""Escape untrusted text for Markdown and for tables that are opened in a spreadsheet.

HTML is escaped by Jinja (:mod:`nextgpt_pl.utils.templates`).
"""

from __future__ import annotations

import html
import re
from typing import Any
from urllib.parse import quote

# spreadsheets take a cell that begins so as a formula: = + - @, their full-width forms, also after tabs and line breaks
_FORMULA = re.compile(r"'*\s*[=+\-@\uff1d\uff0b\uff0d\uff20]|'*[\t\r\n]")
_TABLE_MARK = "'"  # spreadsheets read a cell that begins with it as text


class Markdown(str):
    """Text that is already Markdown; :func:`markdown` does not escape it."""

    __slots__ = ()


def one_line(text: str) -> str:
    """The text with a space in place of each line break and tab."""
    return " ".join(text.replace("\t", " ").splitlines())


def markdown(text: object) -> Markdown:
    """Escape text for Markdown, in one line.

    HTML, tables, links, pictures, emphasis, code, mathematics, headings and lists are shown literally.
    """
    if isinstance(text, Markdown):
        return text
    shown = html.escape(one_line(str(text)).replace("\\", "\\\\"), quote=False)
    shown = shown.replace("-&gt;", "->")  # a lone ">" cannot open a tag
    shown = re.sub(r"([`*\[\]|~$])", r"\\\1", shown)
    shown = re.sub(r"(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])", r"\\_", shown)  # an underscore inside a word is not emphasis
    shown = re.sub(r"://", "&#58;//", re.sub(r"(?i)\bwww\.", lambda m: m[0][:-1] + "&#46;", shown))
    shown = re.sub(r"^(\s*)(#|[-+=](?=[\s\-=+]))", r"\1\\\2", shown)
    return Markdown(re.sub(r"^(\s*\d+)([.)])(?=\s)", r"\1\\\2", shown))


def markdown_code(text: object) -> Markdown:
    r"""Text as inline code, in one line; valid in paragraphs and tables. Text with ``\|`` in it is plain text."""
    shown = one_line(str(text))
    if "\\|" in shown:  # in inline code, a backslash escapes a bar, but nothing escapes the backslash
        return markdown(shown)
    # the fence must be longer than any run of backquotes in the text
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", shown)), default=0))
    pad = " " if shown.startswith("`") or shown.endswith("`") or not shown else ""
    return Markdown(f"{fence}{pad}{shown}{pad}{fence}".replace("|", "\\|"))


def markdown_target(path: str) -> str:
    """A relative path as the target of a link or picture."""
    return quote(path, safe="/")


def spreadsheet_cell(value: Any) -> Any:
    """A cell of a CSV or TSV table; text that a spreadsheet would evaluate as a formula gets a leading apostrophe.

    Numbers are unchanged, also numbers given as text.
    """
    return _TABLE_MARK + value if isinstance(value, str) and _FORMULA.match(value) and not _is_number(value) else value


def plain_cell(value: str) -> str:
    """The original text of a cell that :func:`spreadsheet_cell` wrote."""
    text = value.removeprefix(_TABLE_MARK)
    return text if text != value and _FORMULA.match(text) and not _is_number(text) else value


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
