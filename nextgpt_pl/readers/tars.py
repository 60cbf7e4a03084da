"""Samples of tar shards (WebDataset, img2dataset, video2dataset): members whose names share the part before a dot."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from nextgpt_pl.errors import UserError
from nextgpt_pl.modality import Modality, modality_of_file
from nextgpt_pl.readers.files import is_hidden
from nextgpt_pl.readers.stored import is_reference, reference, stored
from nextgpt_pl.samples import Media

_TEXT = (".txt", ".text", ".transcript", ".cls", ".caption")
MAX_TEXT = 1 << 24  # bytes of a member that is read into a row
#: ending of a member that is a caption embedding; in a dialogue behind a number, as in ``KEY.1.embedding.npy``
EMBEDDING = "embedding.npy"


def is_tar(head: bytes) -> bool:
    """Whether a file's first bytes are those of a tar archive."""
    return head[257:262] == b"ustar"


def samples(path: Path) -> Iterator[Any]:
    """One row per sample, in the shard's order.

    The keys are ``__key__`` and the endings of the members (``jpg``, ``txt``). The keys of a member ``json`` are keys
    of the row as well, except those that are endings. Media are references to the shard's bytes.
    """
    row: dict[str, Any] = {}
    end = path.stat().st_size
    try:
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                if member.size < 0:  # tarfile would go back by as much, again and again
                    raise tarfile.ReadError(f"{member.name} has a size of {member.size} bytes")
                if not member.isfile() or is_hidden(member.name):
                    continue
                folder, _, name = member.name.rpartition("/")
                stem, _, ending = name.partition(".")
                key = f"{folder}/{stem}" if folder else stem
                if row and row["__key__"] != key:
                    yield _complete(row)
                    row = {}
                if member.offset_data + member.size > end:
                    row = {}  # the sample lacks this member
                    raise tarfile.ReadError(f"it ends within {member.name}")
                row.setdefault("__key__", key)
                if ending in row:
                    yield UserError(f"sample {key}: two members end in .{ending}")
                    continue
                row[ending.lower()] = _content(archive, member)
    except (tarfile.TarError, EOFError) as error:
        if row:
            yield _complete(row)
        yield UserError(f"damaged tar file ({error}); the samples behind this place are not read")
        return
    if row:
        yield _complete(row)


def media_members(row: dict[str, Any]) -> dict[str, Modality]:
    """The keys of a sample's row that are media members, in order, with their modalities; empty for other rows.

    Where the ending is of no known medium, the name before it may be a modality: ``KEY.depth.npy``, ``KEY.image.bin``.
    """
    found = {}
    if "__key__" in row:
        for key, value in row.items():
            if is_reference(value):
                modality = _modality(key)
                if modality is not None:
                    found[key] = modality
    return found


def sample_media(row: dict[str, Any], file: Path) -> dict[str, Media]:
    """The media members of a sample of the shard ``file``, by the keys of its row."""
    return {
        key: Media(modality, stored(file, row[key], f"{row['__key__']}.{key}"))
        for key, modality in media_members(row).items()
    }


def named_members(row: dict[str, Any]) -> set[str]:
    """The keys of a sample's row that are media or caption embeddings; empty for other rows."""
    embeddings = {key for key in row if key.endswith(EMBEDDING)} if "__key__" in row else set()
    return embeddings.union(media_members(row))


def _modality(ending: str) -> Modality | None:
    with suppress(ValueError):
        return modality_of_file(f".{ending}")
    with suppress(ValueError):
        return Modality(".".join(ending.split(".")[-2:-1]))
    return None


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> Any:
    ending = "." + member.name.rpartition(".")[2].lower()
    if ending in _TEXT or ending == ".json":
        if member.size > MAX_TEXT:
            return UserError(f"{member.name}: {member.size:,} bytes of text, at most {MAX_TEXT:,} are read")
        file = archive.extractfile(member)
        assert file is not None
        try:
            text = file.read().decode("utf-8-sig")
            return json.loads(text) if ending == ".json" else text.strip()
        except (ValueError, RecursionError) as error:
            return UserError(f"{member.name}: unreadable ({error})")
    return reference("part", member.offset_data, member.size)


def _complete(row: dict[str, Any]) -> Any:
    """The row with the keys of its JSON object; the error of a member that cannot be read."""
    for value in row.values():
        if isinstance(value, UserError):
            return UserError(f"sample {row['__key__']}: {value}")
    described = row.pop("json", None)
    if described is None:
        return row
    if not isinstance(described, dict):
        return {**row, "json": described}
    return {**described, **row}
