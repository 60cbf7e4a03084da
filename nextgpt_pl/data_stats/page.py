"""The page of a survey: tables, histograms, findings and example rows in one HTML file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from nextgpt_pl.data_stats.examples import example_rows
from nextgpt_pl.data_stats.figures import PROPERTY_NAMES, length_figure, media_figure
from nextgpt_pl.data_stats.rows import LENGTHS
from nextgpt_pl.data_stats.survey import Survey
from nextgpt_pl.reports.document import html_blocks, html_figure, html_page, html_table

Numbers = Mapping[str, Any]
_PERCENTILES = ("5", "50", "95", "99")


def write_page(survey: Survey, numbers: Numbers, title: str) -> str:
    """The page as HTML without external files.

    Args:
        survey: the survey.
        numbers: its numbers.
        title: title of the page.

    """
    sections = [
        html_blocks().text(_scope(numbers)),
        html_table(*summary_table(numbers)),
        *_notes(numbers),
        *_section("What training draws", [html_table(*_mixture(numbers))]),
        *_section("Lengths", _lengths(survey, numbers)),
        *_section("Media", _media(survey, numbers)),
        *_section("Duplicates", _duplicates(numbers)),
        *_section("Validation items that are in training", _leakage(numbers)),
        *_section("Items that cannot be used", _faults(numbers)),
        html_blocks().heading("Examples"),
    ]
    for part in survey.parts:
        sections += _section(part.title, example_rows(part, survey.conversation), html_blocks().subheading)
    return html_page(title, sections)


def _section(title: str, blocks: Sequence[Markup], heading: Any = None) -> list[Markup]:
    """The blocks under their title; nothing if there is none."""
    return [(heading or html_blocks().heading)(title), *blocks] if blocks else []


def _scope(numbers: Numbers) -> str:
    """What was read."""
    read, rows = (sum(part[key] for part in numbers["parts"]) for key in ("read", "rows"))
    media = sum(part["files"]["read"] for part in numbers["parts"])
    distinct = sum(part["media"]["distinct"] for part in numbers["parts"])
    stopped = "" if numbers["complete"] else "The survey was interrupted: all numbers are of what was read until then. "
    sample = f", at most {numbers['sample']:,} of a source and split, drawn at random" if numbers["sample"] else ""
    return f"{stopped}{read:,} of {rows:,} rows were read, and the files of {media:,} of {distinct:,} media{sample}."


def summary_table(numbers: Numbers) -> tuple[list[str], list[list[str]]]:
    """Header and rows: one per source and split."""
    header = ["source", "split", "rows", "broken", "unusable", "tokens: 50%", "95%", "max", "too long"]
    header += ["inputs", "outputs", "texts repeated", "similar", "in training"]
    rows = []
    for part in numbers["parts"]:
        tokens = part["tokens"]
        usable = tokens["count"]
        lengths = [tokens["percentiles"]["50"], tokens["percentiles"]["95"], tokens["max"]] if usable else ["-"] * 3
        found = [usable - part["texts"]["distinct"], part["texts"]["near_duplicates"]]
        leak = part["in_training"]["texts"] if part["in_training"] else "-"
        kinds = [_counts(part["media"][side]) for side in ("input", "output")]
        cells = [part["read"], part["broken"], part["unusable"]["count"], *lengths, part["too_long"]]
        rows.append([part["source"], part["split"], *map(number, [*cells, *kinds, *found, leak])])
    return header, rows


def number(value: Any) -> str:
    """A number for people: thousands separated, fractions to three digits."""
    if isinstance(value, str):
        return value
    return f"{value:,.0f}" if value == round(value) or abs(value) >= 1000 else f"{value:.3g}"


def _counts(counts: Numbers) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in counts.items()) or "-"


def _notes(numbers: Numbers) -> list[Markup]:
    return [html_blocks().text(f"{p['source']}, {p['split']}: {note}") for p in numbers["parts"] for note in p["notes"]]


def _mixture(numbers: Numbers) -> tuple[list[str], list[list[str]]]:
    rows = [
        [
            group["group"],
            number(group["items"]),
            "-" if group["weight"] is None else number(group["weight"]),
            f"{group['share']:.1%}",
            number(group["draws_per_item"]),
        ]
        for group in numbers["mixture"]
    ]
    return ["group", "items", "weight", "share of what is drawn", "draws of an item per epoch"], rows


def _lengths(survey: Survey, numbers: Numbers) -> list[Markup]:
    figure = length_figure(survey.parts, numbers["max_length"])
    words = f"Tokens are those of the stage; data.max_length={numbers['max_length']} is dotted if a row is longer."
    found = [([_title(part), name], part[name]) for part in numbers["parts"] for name in LENGTHS]
    table = _distributions(["part", "per row"], found)
    return [html_blocks().text(words), *([html_figure(figure, words)] if figure else []), table]


def _media(survey: Survey, numbers: Numbers) -> list[Markup]:
    figure = media_figure(survey.parts)
    rows = []
    for part in numbers["parts"]:
        media, files = part["media"], part["files"]
        sides = [_counts(part["kinds"]), *(_counts(media[side]) for side in ("input", "output"))]
        cells = [media["captions_alone"], media["distinct"], files["read"], files["unreadable"]["count"]]
        rows.append([_title(part), *sides, *map(number, cells)])
    header = ["part", "items", "inputs", "outputs", "without medium", "distinct media", "read", "unreadable"]
    blocks = [html_table(header, rows)]
    if figure is not None:
        blocks.append(html_figure(figure, "Histograms of the properties of media."))
    found = [
        ([_title(part), modality, PROPERTY_NAMES[name]], summary)
        for part in numbers["parts"]
        for modality, properties in part["files"]["properties"].items()
        for name, summary in properties.items()
    ]
    uses = [
        ([_title(part), "all", words], part["media"][name])
        for part in numbers["parts"]
        for name, words in (("rows_per_medium", "rows per medium"), ("captions_per_medium", "captions per medium"))
    ]
    return [*blocks, _distributions(["part", "modality", "property"], [*uses, *found])]


def _distributions(header: Sequence[str], found: Iterable[tuple[Sequence[str], Numbers]]) -> Markup:
    """A table of distributions that have values."""
    rows = []
    for names, d in found:
        if d["count"]:
            numbers = [d["count"], d["min"], *(d["percentiles"][p] for p in _PERCENTILES), d["max"], d["mean"]]
            rows.append([*names, *map(number, numbers)])
    return html_table([*header, "count", "min", *(f"{p}%" for p in _PERCENTILES), "max", "mean"], rows)


def _duplicates(numbers: Numbers) -> list[Markup]:
    counts, examples = [], []
    for part in numbers["parts"]:
        texts, files, title = part["texts"], part["files"], _title(part)
        opened = files["read"] - files["unreadable"]["count"]
        cells = [part["tokens"]["count"], texts["distinct"], texts["near_duplicates"], opened]
        counts.append([title, *map(number, [*cells, files["distinct_contents"]])])
        examples += [[title, "equal texts", e["text"], f"{e['rows']:,} rows"] for e in texts["most_frequent"]]
        examples += [[title, "similar texts", e["text"], e["earlier"]] for e in texts["similar"]]
        examples += [[title, "equal media", e["medium"], f"{e['files']:,} files"] for e in files["most_frequent"]]
    header = ["part", "rows", "distinct texts", "similar to an earlier text", "files read", "distinct contents"]
    about = "The text of a pair is its caption, that of a dialogue all its texts. Similar: 80% of the word trigrams."
    blocks = [html_blocks().text(about), html_table(header, counts)]
    return [*blocks, html_table(["part", "what", "example", ""], examples)] if examples else blocks


def _leakage(numbers: Numbers) -> list[Markup]:
    counts, examples = [], []
    for part in numbers["parts"]:
        if leak := part["in_training"]:
            cells = [part["tokens"]["count"], leak["texts"], leak["media"], leak["contents"]]
            counts.append([part["source"], *map(number, cells)])
            for key, words in (("text", "text"), ("media", "medium"), ("content", "content of a medium")):
                examples += [[part["source"], words, example] for example in leak[f"{key}_examples"]]
    header = ["source", "validation rows", "with a text of training", "media of training", "contents of training"]
    blocks = [html_table(header, counts)]
    return [*blocks, html_table(["source", "what", "example"], examples)] if examples else blocks


def _faults(numbers: Numbers) -> list[Markup]:
    found = [
        [_title(part), what, message]
        for part in numbers["parts"]
        for what, faults in (("row", part["unusable"]), ("file", part["files"]["unreadable"]))
        for message in faults["first"]
    ]
    return [html_table(["part", "what", "the first reasons"], found)] if found else []


def _title(part: Numbers) -> str:
    return f"{part['source']}, {part['split']}"
