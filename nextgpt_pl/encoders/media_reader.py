"""Reading of a stage's media files in data-loader workers, where unreadable files are detected."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from nextgpt_pl.batches import MediaSlot, Rendered
from nextgpt_pl.encoders.base import Encoder
from nextgpt_pl.encoders.stores import EncoderStores, MemoryStores
from nextgpt_pl.media.reading import array_of
from nextgpt_pl.modality import Modality
from nextgpt_pl.samples import Media

_MAX_OPENED = 50_000  # maximum number of checked media that a worker remembers


@dataclass
class MediaReader:
    """Reads a row's media files. Media that are rendered on demand are not read here.

    Attributes:
        encoder: prepares input media; ``None`` if the stage reads none.
        compared: modalities whose true media a loss reads.
        stores: of the encoder's features; media whose features are there are not read.

    """

    encoder: Encoder | None
    compared: frozenset[Modality] = frozenset()
    stores: EncoderStores | MemoryStores | None = None
    _opened: set[Media] = field(default_factory=set, init=False, repr=False)

    def __call__(self, row: Rendered) -> Rendered:
        """The row with its input media prepared for the encoder, except those whose features are cached.

        Raises:
            UserError: a file is missing, unreadable or not finite.

        """
        for span in row.spans:
            if span.media is not None and self._compares(span.modality) and isinstance(span.media.source, Path):
                self._open(span.media)
        return replace(row, slots=tuple(self._prepared(slot) for slot in row.slots))

    def files(self, row: Rendered) -> list[Media]:
        """The media files of a row that this stage reads."""
        compared = [span.media for span in row.spans if span.media is not None and self._compares(span.modality)]
        return [m for m in [*(slot.media for slot in row.slots), *compared] if isinstance(m.source, Path)]

    def _open(self, medium: Media) -> None:
        """Check that a medium can be read; the loss reads it again if its latents are not cached."""
        if medium not in self._opened:
            array_of(medium)
            if len(self._opened) < _MAX_OPENED:
                self._opened.add(medium)

    def _compares(self, modality: Modality) -> bool:
        return modality in self.compared

    def open_stores(self) -> None:
        """Open the stores, before data-loader workers are started."""
        if self.encoder is not None and self.stores is not None:
            self.stores.open()

    def _prepared(self, slot: MediaSlot) -> MediaSlot:
        if self.encoder is None or not isinstance(slot.media.source, Path) or self._kept(slot.media):
            return slot
        return replace(slot, inputs=self.encoder.prepare(slot.media))

    def _kept(self, medium: Media) -> bool:
        """Whether the medium's feature is in an open store; an error if its file is missing."""
        store = None if self.stores is None else self.stores.opened(medium.modality)
        if self.stores is None or store is None:
            return False
        store.refresh_if_changed()  # workers persist over epochs while the parent process fills the cache
        return self.stores.key(medium) in store
