"""All layouts; the first that fits the first row of a file reads it."""

from __future__ import annotations

from nextgpt_pl.modality import MODALITIES
from nextgpt_pl.readers.layouts import captions, official, text
from nextgpt_pl.readers.layouts.base import Layout, keys, needs

_OFFICIAL = frozenset(
    key
    for m in MODALITIES
    for key in (f"input_{m}", f"output_{m}", f"{m}_captions", f"{m}_caption_embeddings", f"{m}_name", m.value)
)
_NAMES = tuple(keys(f"{m}_name caption") for m in MODALITIES)
_OFFICIAL_METADATA = keys("id source_data data_source output_modality")

#: from the most special to the most general
LAYOUTS = (
    Layout("official_pairs", _NAMES, _OFFICIAL | keys("conversations"), official.pairs, _OFFICIAL_METADATA),
    Layout("official_dialogues", needs("conversations"), _OFFICIAL, official.dialogue, _OFFICIAL_METADATA),
    Layout("videochat", needs("video QA"), keys(""), text.videochat),
    Layout("alpaca", needs("instruction output"), keys("input"), text.alpaca, keys("text id")),
    Layout(
        "manifest",
        needs("file_name text", "file caption", "file captions"),
        keys("caption text file_name"),
        captions.manifest,
    ),
)
BY_NAME = {layout.name: layout for layout in LAYOUTS}
