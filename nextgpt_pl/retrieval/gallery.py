"""A gallery in its folder: the nearest items of an embedding, and their media."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from nextgpt_pl.errors import UserError
from nextgpt_pl.modality import Modality
from nextgpt_pl.retrieval import manifest as manifests
from nextgpt_pl.retrieval.compact import Compact, Embed, flat_embeddings
from nextgpt_pl.retrieval.manifest import Manifest
from nextgpt_pl.retrieval.media_files import medium_of
from nextgpt_pl.retrieval.records import Record, Records
from nextgpt_pl.retrieval.vector_index import VectorIndex
from nextgpt_pl.samples import Media

PROBES = 32


@dataclass(frozen=True)
class Neighbour:
    """An item near an embedding.

    Attributes:
        row: its number in the gallery.
        record: its record.
        distance: relative squared distance of its caption's embedding; 1 is the mean of the gallery's captions to their
            mean.

    """

    row: int
    record: Record
    distance: float


class Gallery:
    """Media of one modality with an index of their captions' embeddings; index and records are memory-mapped.

    Args:
        folder: the folder.
        manifest: its manifest.
        probes: number of the index's lists that are searched; more lists find the nearest item more surely.

    Raises:
        UserError: a file is damaged, or faiss is not installed.

    """

    def __init__(self, folder: Path, manifest: Manifest, probes: int = PROBES) -> None:
        self.folder, self.manifest = folder, manifest
        self.modality = Modality(manifest.modality)
        self._compact = Compact.read(folder / manifests.PROJECTION)
        count, dimensions = manifest.count, manifest.dimensions
        if self._compact.axes.shape[1] != dimensions:
            found = self._compact.axes.shape[1]
            raise UserError(f"{folder / manifests.PROJECTION}: {found} components, expected {dimensions}")
        self._index = VectorIndex(folder / manifests.VECTORS, count, dimensions, probes)
        self._records = Records(folder / manifests.RECORDS, count)

    @classmethod
    def open(cls, folder: Path, modality: Modality, producer: Mapping[str, Any], probes: int = PROBES) -> Gallery:
        """The complete gallery in a folder.

        Args:
            folder: the folder.
            modality: expected modality of its media.
            producer: description of the text encoder that embeds queries.
            probes: see :class:`Gallery`.

        Raises:
            UserError: there is no complete gallery, it is damaged, or it is of another modality or text encoder.

        """
        manifest = manifests.read_manifest(folder)
        manifests.check_encoder(manifest, folder, modality, manifests.encoder_of(producer))
        return cls(folder, manifest, probes)

    def __len__(self) -> int:
        return self.manifest.count

    def nearest(self, embedding: Tensor, count: int, embed: Embed) -> list[Neighbour]:
        """The nearest items of an embedding, the nearest first.

        The index proposes ``count`` items by their compact vectors. Their captions are embedded again, and ordered by
        their exact distances.

        Args:
            embedding: ``(F,)`` float32 on the CPU, flattened.
            count: number of items.
            embed: embeds captions by the text encoder of the gallery.

        Raises:
            UserError: the embedding is not finite, or the index is damaged.

        """
        if not embedding.isfinite().all():
            raise UserError(f"gallery {self.folder}: the embedding of a request has numbers that are not finite")
        rows = self._index.search(self._compact(embedding[None])[0], count)
        records = [self._records[row] for row in rows]
        found = flat_embeddings(embed, [record.caption for record in records])
        distances = self._compact.distances(embedding, found)
        neighbours = [Neighbour(*entry) for entry in zip(rows, records, distances, strict=True)]
        return sorted(neighbours, key=lambda n: (n.distance, n.row))

    def medium(self, record: Record) -> Media:
        """The medium of a record; it is not decoded.

        Raises:
            UserError: its name leaves the gallery's folder, or the file is missing or has changed.

        """
        return medium_of(record, self.modality, self.folder)
