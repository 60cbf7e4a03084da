"""What a stage reads of files, as its data-loader workers do it: a file that cannot be read is found there."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from nextgpt_pl.encoders.base import Encoder
from nextgpt_pl.media import array_of
from nextgpt_pl.modality import Modality
from nextgpt_pl.samples import Media, MediaSlot, Rendered

_REMEMBERED = 50_000  # media that a worker need not open a second time


@dataclass
class MediaReader:
    """Reads the files that a row's media are in; media that are rendered on demand stay for later.

    Attributes:
        encoder: reads what is shown; ``None`` where nothing is.
        compared: modalities whose true media a loss looks at.

    """

    encoder: Encoder | None
    compared: frozenset[Modality] = frozenset()
    _opened: set[Media] = field(default_factory=set, init=False, repr=False)

    def __call__(self, row: Rendered) -> Rendered:
        """The row with its shown media prepared for the encoder, but for those whose features are kept.

        Raises:
            UserError: a file is missing, unreadable or not finite.

        """
        for span in row.spans:
            if span.media is not None and self._compares(span.modality) and isinstance(span.media.source, Path):
                self._open(span.media)
        return replace(row, slots=tuple(self._prepared(slot) for slot in row.slots))

    def files(self, row: Rendered) -> list[Media]:
        """The media of a row that are read from files, for this stage."""
        compared = [span.media for span in row.spans if span.media is not None and self._compares(span.modality)]
        return [m for m in [*(slot.media for slot in row.slots), *compared] if isinstance(m.source, Path)]

    def _open(self, medium: Media) -> None:
        """See that a medium can be read; the loss reads it itself, where its latents are not remembered."""
        if medium not in self._opened:
            array_of(medium)
            if len(self._opened) < _REMEMBERED:
                self._opened.add(medium)

    def _compares(self, modality: Modality) -> bool:
        return modality in self.compared

    def _prepared(self, slot: MediaSlot) -> MediaSlot:
        if self.encoder is None or not isinstance(slot.media.source, Path) or self.encoder.keeps(slot.media):
            return slot
        return replace(slot, inputs=self.encoder.prepare(slot.media))
