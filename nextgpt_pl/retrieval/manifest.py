"""The manifest of a gallery: what its index was made of, and by what."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from nextgpt_pl.errors import UserError
from nextgpt_pl.features.keys import content_sha256
from nextgpt_pl.modality import Modality
from nextgpt_pl.utils.atomic import write_atomic

VERSION = 1  # raise it when the files of a gallery change
FILE = "manifest.json"
PROJECTION, VECTORS, RECORDS = "projection.safetensors", "vectors.faiss", "records.arrow"
FILES = (PROJECTION, VECTORS, RECORDS)
COMMAND = "python -m nextgpt_pl data index-gallery -c FILE"
_FREE = ("compute_dtype",)  # embeddings in another precision differ by less than those of neighbouring captions


@dataclass(frozen=True)
class Manifest:
    """What is in a gallery's folder.

    Attributes:
        modality: modality of the media.
        encoder: description of the text encoder, as its feature cache has it.
        shape: shape of one caption embedding.
        dimensions: length of a vector in the index.
        count: number of items.
        skipped: number of items that were left out, since their media could not be read.
        quantiles: distances of held-out captions to their nearest item, by the share of captions that are nearer.
        held_out: number of these captions.
        sha256: hash of each file, see :func:`~nextgpt_pl.features.keys.content_sha256`.
        version: version of the format.

    """

    modality: str
    encoder: Mapping[str, Any]
    shape: Sequence[int]
    dimensions: int
    count: int
    skipped: int
    quantiles: Mapping[str, float] = field(default_factory=dict)
    held_out: int = 0
    sha256: Mapping[str, str] = field(default_factory=dict)
    version: int = VERSION

    def write(self, folder: Path) -> None:
        """Write ``manifest.json``; the folder is a gallery from then on."""
        write_atomic(folder / FILE, json.dumps(asdict(self), indent=2) + "\n")


def encoder_of(producer: Mapping[str, Any]) -> dict[str, Any]:
    """Description of a text encoder on which the vectors of a gallery depend, as plain data of JSON."""
    kept = {name: value for name, value in producer.items() if name not in _FREE}
    return dict(json.loads(json.dumps(kept)))


def hashes(folder: Path) -> dict[str, str]:
    """The hash of each file of a gallery."""
    return {name: content_sha256(folder / name) for name in FILES}


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a gallery's folder, whose files are those that it names.

    Raises:
        UserError: there is no complete gallery, it is of another version, or a file is missing or has changed.

    """
    file = folder / FILE
    if not file.is_file():
        raise UserError(f"gallery {folder}: no complete gallery ({FILE} is missing); {COMMAND} makes it")
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        unknown = set(content) ^ {entry.name for entry in fields(Manifest)}
        manifest = Manifest(**content)
        Modality(manifest.modality)
    except (ValueError, TypeError) as error:
        raise UserError(f"{file}: not a manifest of a gallery ({error!s:.80})") from error
    if unknown or manifest.version != VERSION:
        raise UserError(f"{file}: version {manifest.version} is not {VERSION}; remove the folder, and {COMMAND}")
    for name, expected in manifest.sha256.items():
        if name not in FILES or not (folder / name).is_file():
            raise UserError(f"{file}: its file {name} is missing; remove the folder, and {COMMAND}")
        if content_sha256(folder / name) != expected:
            raise UserError(f"{folder / name}: damaged, or not of this gallery; remove the folder, and {COMMAND}")
    return manifest


def check_encoder(manifest: Manifest, folder: Path, modality: Modality, encoder: Mapping[str, Any]) -> None:
    """Refuse a gallery of another modality or text encoder.

    Raises:
        UserError: it is one; the message names what differs.

    """
    if manifest.modality != modality:
        raise UserError(f"gallery {folder}: its media are of modality {manifest.modality}, expected {modality}")
    theirs = manifest.encoder
    different = sorted(key for key in {*theirs, *encoder} if theirs.get(key) != encoder.get(key))
    if different:
        key = different[0]
        raise UserError(
            f"gallery {folder}: indexed with another text encoder, which differs in {', '.join(different)} "
            f"({key}: {theirs.get(key)!s:.40} there, {encoder.get(key)!s:.40} here); give another folder, and {COMMAND}"
        )
