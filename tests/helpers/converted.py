"""Conversion of sources in tests, and what two items must have in common."""

from pathlib import Path

import yaml

from nextgpt_pl.converting import Conversion, Settings
from nextgpt_pl.converting.data_block import data_block
from nextgpt_pl.converting.writers import WRITERS
from nextgpt_pl.datamodules.data_files import DataFiles
from nextgpt_pl.datamodules.rows import load_embedding
from nextgpt_pl.media.reading import array_of
from nextgpt_pl.samples import Dialogue, StoredMedia, TextPart

TEXTS = ("instruction", "question", "response", "description")


def convert(source, folder, to="tar", *, rows=5000, shard_size=10**9, check=True, workers=0, described=None):
    """Convert a source to a folder; returns the totals."""
    settings = Settings(to, rows, shard_size, check)
    return Conversion(source, described or {"data files": source.states()}, folder, settings).run(workers)


def read_back(source, folder, to="tar"):
    """The source that the YAML names."""
    block = yaml.safe_load(data_block("x", [source], [folder], WRITERS[to].suffix))
    (entry,) = block["data"]["init_args"]["sources"]
    return DataFiles(**{**entry["init_args"], "root": Path(entry["init_args"]["root"])})


def content(item):
    """What an item says, with the content of its media."""
    if isinstance(item, Dialogue):
        return [(message.role, message.learned, [_part(part) for part in message.parts]) for message in item.messages]
    texts = [getattr(item, name) for name in TEXTS]
    return [item.modality, item.caption, texts, _medium(item.media), _embedding(item.caption_embedding)]


def _part(part):
    if isinstance(part, TextPart):
        return part.text
    return part.modality, _medium(part.media), part.caption, _embedding(part.caption_embedding)


def _medium(media):
    if media is None:
        return None
    if not media.is_file:
        array, rate = array_of(media)
        return media.modality, array.tobytes(), array.shape, rate
    data = media.source.read() if isinstance(media.source, StoredMedia) else media.source.read_bytes()
    return media.modality, data, media.start, media.end


def arrays(item):
    """The arrays of a pair's medium or a dialogue's media."""
    parts = [p for m in item.messages for p in m.parts] if isinstance(item, Dialogue) else [item]
    media = [part.media for part in parts if getattr(part, "media", None) is not None]
    return [(array_of(medium)[0] + 0).tobytes() for medium in media]  # a zero has no sign


def _embedding(path):
    return None if path is None else load_embedding(path).tolist()
