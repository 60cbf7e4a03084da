"""The pane for researchers as HTML: the tokens that the LLM wrote, and what its signal tokens were projected to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from nextgpt_pl.demo.captions import NearestCaptions
from nextgpt_pl.generation.records import Record, SpanRecord, TokenRecord
from nextgpt_pl.modality import GENERATED
from nextgpt_pl.utils.templates import html_templates

STYLE = """
.pane .tokens { white-space: pre-wrap; overflow-wrap: anywhere; font: .9em/1.9 ui-monospace, monospace; }
.pane .token { border-bottom: 2px solid rgb(220 60 60 / calc(1 - var(--p, 1))); }
.pane .signal { border-radius: 4px; padding: 1px 3px; margin: 0 1px; color: #111; }
.pane .image { background: #9fd3ff; } .pane .video { background: #ffd08a; } .pane .audio { background: #b6e6a8; }
.pane table { width: 100%; border-collapse: collapse; margin: 4px 0 10px; }
.pane td, .pane th { text-align: left; padding: 2px 8px 2px 0; overflow-wrap: anywhere; vertical-align: top; }
.pane td:last-child { min-width: 9em; } .pane code { white-space: pre-wrap; }
.pane .bar { display: inline-block; height: .7em; background: #4a90d9; }
"""


@dataclass(frozen=True)
class _Span:
    """A medium: the record of its first token, and its nearest captions once it is embedded."""

    first: TokenRecord
    captions: list[tuple[str, float]] = field(default_factory=list)


def pane_html(records: Sequence[Record], nearest: NearestCaptions | None = None) -> str:
    """The pane of a reply's records; all texts are escaped.

    Args:
        records: in their order.
        nearest: finds captions; ``None``: there are none in the pane.

    """
    tokens = [record for record in records if isinstance(record, TokenRecord)]
    if not tokens:
        return ""
    embedded = [record for record in records if isinstance(record, SpanRecord)]
    spans = [_Span(token) for token in tokens if token.opens]
    for number, record in enumerate(embedded[: len(spans)]):
        if nearest is not None:
            spans[number] = _Span(spans[number].first, nearest(record.modality, record.embedding))
    return _template().render(tokens=tokens, spans=spans, modalities=GENERATED)


@cache
def _template() -> Any:
    return html_templates("nextgpt_pl.demo").get_template("pane.html")
