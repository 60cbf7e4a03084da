"""Build a gallery: keep the media, embed the captions, and index the embeddings.

Items are handled in parts, which are files: an interrupted build continues behind the last complete part.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from nextgpt_pl.errors import UserError
from nextgpt_pl.modality import Modality
from nextgpt_pl.retrieval import manifest as manifests
from nextgpt_pl.retrieval.compact import SAMPLE, Compact, Embed, flat_embeddings
from nextgpt_pl.retrieval.gallery import Gallery
from nextgpt_pl.retrieval.manifest import Manifest
from nextgpt_pl.retrieval.media_files import keep
from nextgpt_pl.retrieval.pairs import CaptionedMedia
from nextgpt_pl.retrieval.records import Part, Record, read_part, write_part, write_records
from nextgpt_pl.retrieval.vector_index import sample_size, write_index
from nextgpt_pl.samples import CaptionedPair
from nextgpt_pl.utils.atomic import write_atomic

DIMENSIONS = 128
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
SETTINGS, SKIPPED, PARTS = "settings.json", "skipped.txt", "parts"
_CHUNK = 2048  # items of a part; an interrupted build loses at most one
_BATCH = 256  # captions whose embeddings are in memory at once
_HELD_OUT, _CANDIDATES = 500, 16  # held-out captions of the quantiles, and items that are compared with each


class GalleryBuilder:
    """Builds the gallery of one modality in a folder.

    Args:
        folder: the folder.
        modality: modality of the media.
        producer: description of the text encoder, as its feature cache has it.
        embed: embeds captions by the text encoder, as ``(N, ...)``.
        data: description of the items, as plain data; a build of other items is refused.
        dimensions: highest length of a vector in the index.
        workers: number of threads that read and write media.

    """

    def __init__(
        self,
        folder: Path,
        modality: Modality,
        producer: Mapping[str, Any],
        embed: Embed,
        data: Mapping[str, Any],
        dimensions: int = DIMENSIONS,
        workers: int = 4,
    ) -> None:
        self.folder, self.modality, self.embed = folder, modality, embed
        self.encoder = manifests.encoder_of(producer)
        self.dimensions, self.workers = dimensions, workers
        self.data = json.loads(json.dumps(data, default=str))

    def build(self, items: Sequence[Any], held_out: Sequence[Any]) -> Manifest:
        """Index all items that are captioned media of the modality; a complete gallery is only verified.

        Args:
            items: their media are indexed; others, such as dialogues, are left out.
            held_out: items of whose captions the distance to the nearest indexed item is measured, at most 500.

        Raises:
            UserError: the folder has a gallery of other items or another text encoder, or there is nothing to index.

        """
        self._pin()
        if (self.folder / manifests.FILE).is_file():
            return manifests.read_manifest(self.folder)
        media = CaptionedMedia(items, self.modality)
        compact = self._projection(media)
        starts = range(0, len(items), _CHUNK)
        with tqdm(total=len(items), desc=f"indexing {self.folder.name}", unit=" items", unit_scale=True) as bar:
            for number, start in enumerate(starts):
                if self._part(number) is None:
                    self._write_part(number, media, range(start, min(start + _CHUNK, len(items))), compact)
                bar.update(min(_CHUNK, len(items) - start))
        manifest = self._join(len(starts), compact)
        manifest = self._measured(manifest, CaptionedMedia(held_out, self.modality))
        manifest.write(self.folder)
        shutil.rmtree(self.folder / PARTS)
        return manifest

    def _pin(self) -> None:
        """Write the settings to the folder; refuse a folder with others."""
        settings = {"modality": self.modality.value, "encoder": self.encoder, "data": self.data}
        settings |= {"dimensions": self.dimensions, "version": manifests.VERSION}
        file = self.folder / SETTINGS
        try:
            known = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            known = settings
        if different := [name for name in settings if known.get(name) != settings[name]]:
            raise UserError(
                f"gallery {self.folder}: made of another {', '.join(different)}; give another folder, or remove it"
            )
        write_atomic(file, json.dumps(settings, indent=2) + "\n")

    def _projection(self, media: CaptionedMedia) -> Compact:
        """The projection in the folder, or one that is fitted to captions that are spread evenly over the items."""
        file = self.folder / manifests.PROJECTION
        if file.is_file():
            return Compact.read(file)
        captions = media.captions(SAMPLE, 4 * SAMPLE)
        if not captions:
            raise UserError(f"gallery {self.folder}: the data have no {self.modality} with a caption")
        compact = Compact.fit(self._embedded(captions), self.dimensions)
        compact.write(file)
        return compact

    def _embedded(self, captions: Sequence[str]) -> Tensor:
        """``(N, F)`` on the CPU."""
        return torch.cat(
            [flat_embeddings(self.embed, captions[i : i + _BATCH]) for i in range(0, len(captions), _BATCH)]
        )

    def _part_file(self, number: int) -> Path:
        return self.folder / PARTS / f"{number:06d}.arrow"

    def _part(self, number: int) -> Part | None:
        """A part that is on disk; ``None`` if it is not, or is damaged."""
        import pyarrow as pa

        try:
            return read_part(self._part_file(number))
        except (OSError, pa.ArrowInvalid):
            return None

    def _write_part(self, number: int, media: CaptionedMedia, chunk: range, compact: Compact) -> None:
        pool = ThreadPoolExecutor(max(1, self.workers))
        try:
            kept = [entry for entry in pool.map(self._kept, (media.pair(i) for i in chunk)) if entry is not None]
        finally:
            pool.shutdown(cancel_futures=True)
        records = [entry for entry in kept if isinstance(entry, Record)]
        captions = [record.caption for record in records]
        vectors = [compact(flat_embeddings(self.embed, block)) for block in _blocks(captions)]
        joined = np.concatenate(vectors) if vectors else np.empty((0, compact.axes.shape[1]), np.float32)
        write_part(self._part_file(number), records, joined, [entry for entry in kept if isinstance(entry, str)])

    def _kept(self, pair: CaptionedPair | str | None) -> Record | str | None:
        """The record of an item; why it was left out; or ``None`` if it is of another kind."""
        if not isinstance(pair, CaptionedPair):
            return pair
        try:
            return keep(pair, self.folder)
        except UserError as error:
            return f"{pair.key}: {error}"

    def _join(self, parts: int, compact: Compact) -> Manifest:
        """Write index, records and list of skipped items from all parts; return the manifest without quantiles."""
        sizes = [(len(part.vectors), part.skipped) for part in self._parts(parts)]
        count, skipped = sum(size for size, _ in sizes), [reason for _, reasons in sizes for reason in reasons]
        write_atomic(self.folder / SKIPPED, "".join(f"{reason}\n" for reason in skipped))
        if not count:
            where = self.folder / SKIPPED
            raise UserError(f"gallery {self.folder}: none of the {self.modality} media can be read, see {where}")
        every = -(-count // sample_size(count))
        sample = np.concatenate([part.vectors[::every] for part in self._parts(parts)])
        vectors = (part.vectors for part in self._parts(parts))
        write_index(self.folder / manifests.VECTORS, sample, vectors, count)
        write_records(self.folder / manifests.RECORDS, self._parts(parts))
        shape = list(self.embed(["a caption"]).shape[1:])
        return Manifest(
            self.modality.value, self.encoder, shape, compact.axes.shape[1], count, len(skipped),
            sha256=manifests.hashes(self.folder),
        )  # fmt: skip

    def _parts(self, count: int) -> Iterator[Part]:
        return (read_part(self._part_file(number)) for number in range(count))

    def _measured(self, manifest: Manifest, held_out: CaptionedMedia) -> Manifest:
        """The manifest with the quantiles of the distances of held-out captions."""
        captions = held_out.captions(_HELD_OUT, 4 * _HELD_OUT)
        if not captions:
            return manifest
        gallery = Gallery(self.folder, manifest)
        embeddings = self._embedded(captions)
        distances = [gallery.nearest(embedding, _CANDIDATES, self.embed)[0].distance for embedding in embeddings]
        quantiles = np.quantile(distances, QUANTILES).tolist()
        named = {f"{share:g}": value for share, value in zip(QUANTILES, quantiles, strict=True)}
        return replace(manifest, quantiles=named, held_out=len(captions))


def _blocks(captions: Sequence[str]) -> Iterator[Sequence[str]]:
    return (captions[i : i + _BATCH] for i in range(0, len(captions), _BATCH))
