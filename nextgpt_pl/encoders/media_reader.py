"""Reading of a stage's media files in data-loader workers, where unreadable files are detected."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from nextgpt_pl.batches import MediaSlot, Rendered, SignalSpan
from nextgpt_pl.encoders.base import Encoder
from nextgpt_pl.encoders.stores import EncoderStores, MemoryStores
from nextgpt_pl.features import Preparation
from nextgpt_pl.modality import Modality
from nextgpt_pl.samples import Media


@dataclass
class MediaReader:
    """Reads a row's media files. Media that are rendered on demand are not read here.

    Attributes:
        encoder: prepares input media; ``None`` if the stage reads none.
        compared: per modality whose true media a loss reads, how it does.
        stores: of the encoder's features; media whose features are there are not read.

    """

    encoder: Encoder | None
    compared: Mapping[Modality, Preparation] = field(default_factory=dict)
    stores: EncoderStores | MemoryStores | None = None

    def __call__(self, row: Rendered) -> Rendered:
        """The row with its media prepared for encoder and loss, except those whose features or latents are kept.

        Raises:
            UserError: a file is missing, unreadable or not finite.

        """
        return replace(
            row,
            slots=tuple(self._prepared(slot) for slot in row.slots),
            spans=tuple(self._compared(span) for span in row.spans),
        )

    def files(self, row: Rendered) -> list[Media]:
        """The media files of a row that this stage reads."""
        compared = [span.media for span in row.spans if span.media is not None and span.modality in self.compared]
        return [m for m in [*(slot.media for slot in row.slots), *compared] if m.is_file]

    def open_stores(self) -> None:
        """Open the stores, before data-loader workers are started."""
        if self.encoder is not None and self.stores is not None:
            self.stores.open()
        for preparation in self.compared.values():
            preparation.memory.share()

    def _prepared(self, slot: MediaSlot) -> MediaSlot:
        """The slot with its medium's key, if there is an open store, and its inputs, unless the store has its feature.

        Raises:
            UserError: the file is missing, unreadable or not finite.

        """
        if self.encoder is None or not slot.media.is_file:
            return slot
        store = None if self.stores is None else self.stores.opened(slot.modality)
        if self.stores is not None and store is not None:
            # the main thread does not hash the file again
            slot = replace(slot, key=self.stores.key(slot.media))
            store.refresh_if_changed()  # workers persist over epochs while the parent process fills the cache
            if slot.key is not None and store.kept(slot.key):
                return slot
        return replace(slot, inputs=self.encoder.prepare(slot.media))

    def _compared(self, span: SignalSpan) -> SignalSpan:
        if span.media is None or span.modality not in self.compared or not span.media.is_file:
            return span
        return replace(span, inputs=self.compared[span.modality](span.media))
