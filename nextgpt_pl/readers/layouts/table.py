"""All layouts; the first that fits the first row of a file reads it."""

from __future__ import annotations

from nextgpt_pl.modality import MODALITIES
from nextgpt_pl.readers.layouts import conversations, messages, nextgpt_raw, official, pairs, text, videos
from nextgpt_pl.readers.layouts.base import Layout, keys, needs
from nextgpt_pl.readers.layouts.captioned_table import CAPTIONED
from nextgpt_pl.readers.splits import PUBLISHED

_NAMES = tuple(keys(f"{m}_name caption") for m in MODALITIES)
_METADATA = keys("id model source_data data_source output_modality __key__")
_REQUEST = conversations.KEYS | {"history"}

#: from the most special to the most general
LAYOUTS = (
    Layout("pairs", pairs.NEEDS, pairs.KEYS, pairs.pairs, pairs.METADATA, members=True, splits=PUBLISHED),
    Layout("official_pairs", _NAMES, official.KEYS, official.pairs, official.METADATA),
    Layout("nextgpt_raw", needs("conversation"), nextgpt_raw.KEYS, nextgpt_raw.raw, nextgpt_raw.METADATA),
    Layout(
        "conversations",
        needs("conversations", "items"),
        conversations.KEYS,
        conversations.conversations,
        _METADATA,
        members=True,
    ),
    Layout(
        "messages",
        needs("messages"),
        conversations.KEYS,
        messages.messages,
        _METADATA,
        members=True,
        splits=PUBLISHED,
    ),
    Layout("query", needs("query response"), _REQUEST, text.query, _METADATA),
    Layout("videochat", needs("video QA", "image QA"), keys("start end"), videos.videochat, keys("id")),
    Layout("video_chatgpt", needs("video_id q a"), keys(""), videos.video_chatgpt, keys("id")),
    Layout("alpaca", needs("instruction output"), _REQUEST | {"input"}, text.alpaca, keys("text id")),
    *CAPTIONED,
)
BY_NAME = {layout.name: layout for layout in LAYOUTS}
