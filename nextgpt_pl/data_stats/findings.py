"""Numbers of a survey as plain data: what is written as JSON and shown on the page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from nextgpt_pl.data_stats.distribution import Distribution
from nextgpt_pl.data_stats.overlaps import first_places, most_frequent, near_duplicates
from nextgpt_pl.data_stats.part import LISTED, Part
from nextgpt_pl.data_stats.rows import CODES, media_of, printable, text_of
from nextgpt_pl.datamodules.base import ItemData
from nextgpt_pl.datamodules.kinds import KINDS, Kind
from nextgpt_pl.dialogue.conversation import Conversation
from nextgpt_pl.errors import UserError

_SHOWN = 300  # characters of a text in an example


def of_part(part: Part, training: Sequence[Part], conversation: Conversation) -> dict[str, Any]:
    """All numbers of a source and split.

    Args:
        part: the source and split.
        training: the training splits of all sources.
        conversation: renders the items.

    """
    kinds = np.bincount(part.kinds, minlength=len(KINDS)).tolist()
    return {
        "source": part.source,
        "split": part.split,
        "rows": len(part.items),
        "read": part.read,
        "broken": part.broken,
        "notes": part.notes,
        "unusable": asdict(part.unusable),
        "kinds": {_kind(kind): n for kind, n in zip(KINDS, kinds, strict=True) if n},
        "too_long": part.too_long,
        **{name: distribution.summary() for name, distribution in part.lengths.items()},
        "texts": _texts(part),
        "media": _media(part),
        "files": _files(part, conversation),
        "in_training": _in_training(part, training, conversation) if part.split == "val" else None,
    }


def _kind(kind: Kind) -> str:
    """A kind of items in words, such as ``image pairs``; a dialogue's is that of its first reply with media."""
    return f"{kind.medium} {'pairs' if kind.pair else 'dialogues'}"


def _texts(part: Part) -> dict[str, Any]:
    texts, rows = part.rows["text"], part.rows["row"]
    pairs = near_duplicates(texts, part.signatures)
    return {
        "distinct": len(first_places(texts)),
        "most_frequent": [
            {"text": _text(part, rows[place]), "rows": count} for place, count in most_frequent(texts, LISTED)
        ],
        "near_duplicates": len(pairs),
        "similar": [
            {"text": _text(part, rows[place]), "earlier": _text(part, rows[earlier])}
            for place, earlier in pairs[:LISTED]
        ],
    }


def _media(part: Part) -> dict[str, Any]:
    """Media in rows: how many of each kind, and how often each occurs."""
    uses = part.uses
    named = uses[uses["name"] > 0]
    counts = {
        side: {
            str(modality): int(((uses["modality"] == code) & (uses["input"] == (side == "input"))).sum())
            for modality, code in CODES.items()
        }
        for side in ("input", "output")
    }
    rows_per_medium, captions_per_medium = Distribution(), Distribution()
    rows_per_medium.add(np.unique(named["name"], return_counts=True)[1])
    captioned = np.unique(named[named["caption"] > 0][["name", "caption"]])
    captions_per_medium.add(np.unique(captioned["name"], return_counts=True)[1])
    return {
        **{side: {modality: n for modality, n in of_side.items() if n} for side, of_side in counts.items()},
        "captions_alone": len(uses) - len(named),
        "distinct": len(rows_per_medium),
        "rows_per_medium": rows_per_medium.summary(),
        "captions_per_medium": captions_per_medium.summary(),
    }


def _files(part: Part, conversation: Conversation) -> dict[str, Any]:
    """The media that were read."""
    contents = part.media["content"]
    return {
        "read": part.media_read,
        "unreadable": asdict(part.unreadable),
        "distinct_contents": len(first_places(contents)),
        "most_frequent": [
            {"medium": _medium(part, int(part.media["use"][place]), conversation), "files": count}
            for place, count in most_frequent(contents, LISTED)
        ],
        "properties": {
            str(modality): {name: d.summary() for name, d in properties.items() if len(d)}
            for modality, properties in part.properties.items()
            if any(map(len, properties.values()))
        },
    }


def _in_training(part: Part, training: Sequence[Part], conversation: Conversation) -> dict[str, Any]:
    """What of a validation split is in the training split of any source."""

    def shared(own: np.ndarray, theirs: Sequence[np.ndarray]) -> np.ndarray:
        return np.flatnonzero((own > 0) & np.isin(own, np.concatenate([*theirs, np.empty(0, np.uint64)])))

    texts = shared(part.rows["text"], [p.rows["text"] for p in training])
    names = shared(part.uses["name"], [p.uses["name"] for p in training])
    names = names[first_places(part.uses["name"][names])]
    contents = shared(part.media["content"], [p.media["content"] for p in training])
    contents = part.media["use"][contents]
    return {
        "texts": len(texts),
        "text_examples": [_text(part, row) for row in part.rows["row"][texts[:LISTED]]],
        "media": len(names),
        "media_examples": [_medium(part, use, conversation) for use in names[:LISTED].tolist()],
        "contents": len(contents),
        "content_examples": [_medium(part, use, conversation) for use in contents[:LISTED].tolist()],
    }


def of_mixture(data: ItemData, training: Sequence[Part]) -> list[dict[str, Any]]:
    """What training draws: per group its items, its weight, its share, and how often an epoch draws each item."""
    sizes: Counter[Hashable] = Counter()
    for source, part in zip(data.sources, training, strict=True):
        for code, count in enumerate(np.bincount(part.kinds, minlength=len(KINDS)).tolist()):
            if count:
                sizes[data.group(KINDS[code], source.name)] += count
    weights = data.shares(list(sizes)) if sizes else None
    drawn = {group: float(count if weights is None else weights.get(group, 0.0)) for group, count in sizes.items()}
    total = sum(drawn.values()) or 1.0
    return [
        {
            "group": " ".join(map(str, group)) if isinstance(group, tuple) else str(group),
            "items": count,
            "weight": None if weights is None else drawn[group],
            "share": drawn[group] / total,
            "draws_per_item": drawn[group] / total * sizes.total() / count,
        }
        for group, count in sizes.items()
    ]


def _text(part: Part, row: int) -> str:
    """The beginning of a row's text."""
    try:
        text = text_of(part.items[int(row)])
    except UserError as error:  # a file has vanished
        text = str(error)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]} ..."


def _medium(part: Part, use: int, conversation: Conversation) -> str:
    """The file of a use, or the item that it is in if it has no file."""
    row, place = part.uses[["row", "place"]][use].tolist()
    try:
        item = part.items[row]
        medium = media_of(item, conversation)[place]
    except UserError as error:  # a file has vanished
        return printable(str(error))
    return printable(str(medium.source)) if medium is not None and medium.is_file else item.key
