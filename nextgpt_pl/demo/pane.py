"""The pane for researchers as HTML: the tokens that the LLM wrote, and what its signal tokens were projected to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from nextgpt_pl.demo.captions import NearestCaptions
from nextgpt_pl.generation.records import Record, SpanRecord, TokenRecord
from nextgpt_pl.modality import DECODABLE
from nextgpt_pl.utils.templates import html_templates


@dataclass(frozen=True)
class _Span:
    """A medium: the record of its first token, and its nearest captions once it is embedded."""

    first: TokenRecord
    captions: list[tuple[str, float]] = field(default_factory=list)

    @property
    def alternatives(self) -> list[tuple[str, float]]:
        """Texts and probabilities of the most probable tokens, and of the chosen one if it is none of them."""
        first, found = self.first, list(self.first.alternatives)
        if first.choice and first.text not in dict(found):
            found.append((first.text, first.choice.probability))
        return found


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
        if nearest is not None and record.embedding is not None:
            spans[number] = _Span(spans[number].first, nearest(record.modality, record.embedding))
    return _template().render(tokens=tokens, spans=spans, modalities=DECODABLE, percent=_percent, visible=_visible)


def _percent(share: float) -> str:
    return "< 0.1%" if 0 < share < 0.0005 else f"{share:.1%}"


def _visible(text: str) -> str:
    """A token's text with signs for white space."""
    return text.replace(" ", "␣").replace("\n", "↵").replace("\t", "⇥") or "(no text)"


@cache
def _template() -> Any:
    return html_templates("nextgpt_pl.demo").get_template("pane.html")
