"""Assemble the text pieces and media of a rendered chat template into one row of token ids."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from nextgpt_pl.batches import IGNORE, MediaSlot, Rendered, SignalSpan
from nextgpt_pl.dialogue.template_tokens import MEDIUM, Piece, TemplateTokens, without_marks
from nextgpt_pl.errors import UserError
from nextgpt_pl.modality import Modality
from nextgpt_pl.samples import Dialogue, MediaPart

if TYPE_CHECKING:
    from nextgpt_pl.dialogue.conversation import Conversation


class RowWriter:
    """Collects the text pieces and media of one dialogue."""

    def __init__(self, conversation: Conversation, dialogue: Dialogue) -> None:
        self.conversation, self.key = conversation, dialogue.key
        self.pieces: list[Piece] = []
        self.borders: list[int] = []  # piece indices at which replies begin and end, alternating
        # with signal ids, none for media that are shown, and whether these are learned
        self.media: list[tuple[MediaPart, Sequence[int], bool]] = []
        self._opened: int | None = None  # position of the token that opened the present span of words

    def border(self, *, opens: bool) -> None:
        """Mark the begin or end of a reply. The model also learns to write the spaces in front of a reply."""
        blanks = opens and self.without_blanks(keep=True)
        self.borders.append(len(self.pieces) - blanks)

    def without_blanks(self, *, keep: bool = False) -> bool:
        """Strip trailing spaces from the last piece; with ``keep`` they become a separate piece.

        Returns:
            Whether there were any.

        """
        last = self.pieces.pop() if self.pieces else Piece("")
        text = last.text.rstrip(" ")
        blanks = len(last.text) - len(text)
        self.pieces += [Piece(t, last.typed) for t in (text, " " * blanks * keep) if t]
        return blanks > 0

    def medium(self, part: MediaPart, produced: bool, *, earlier: bool = False) -> None:
        """Add a medium that the assistant produces or the user shows.

        Args:
            part: the medium.
            produced: whether the assistant produces it.
            earlier: whether it is of an earlier turn, or one that is not learned: it is context.

        Raises:
            UserError: no decoder or encoder handles its modality, or it has no caption or no file.

        """
        shown = not produced or (earlier and part.modality in self.conversation.shown_in_history)
        if produced and not (shown and self.conversation.media_in_history == "features"):
            self._produced(part, learned=not earlier)
        if shown:
            self._shown(part, "the assistant has made" if produced else "the user shows")

    def _shown(self, part: MediaPart, what: str) -> None:
        if not self.conversation.slot_lengths.get(part.modality):
            read = _only(m for m, length in self.conversation.slot_lengths.items() if length)
            raise UserError(f"{self.key}: {what} {part.modality}, but no encoder reads it{read}")
        if part.media is None:
            raise UserError(
                f"{self.key}: {what} {part.modality}, but the item has no file of it"
                + (", which network.media_in_history shows to later turns" if what != "the user shows" else "")
            )
        self._place(part)

    def _produced(self, part: MediaPart, learned: bool) -> None:
        signal_ids = self.conversation.signal_ids.get(part.modality)
        if not signal_ids:
            made = _only(self.conversation.signal_ids)
            raise UserError(f"{self.key}: the assistant is to produce {part.modality}, but no decoder makes it{made}")
        if part.caption is None:
            raise UserError(f"{self.key}: the assistant's {part.modality} has no caption to learn from")
        for piece in self.conversation.reply_media.written(part.modality, part.caption, signal_ids):
            if isinstance(piece, str):
                self.pieces.append(Piece(without_marks(piece), typed=True))
            else:
                self._place(part, piece, learned)

    def _place(self, part: MediaPart, signal_ids: Sequence[int] = (), learned: bool = False) -> None:
        self.pieces.append(Piece(MEDIUM))
        self.media.append((part, signal_ids, learned))

    def rendered(self, dialogue: Dialogue, tokens: TemplateTokens) -> Rendered:
        """Tokenise the pieces and insert slots and signal spans for the media."""
        ids, borders = tokens(self.pieces, self.borders)
        labelled: set[int] = set()
        for start, stop in zip(borders[::2], borders[1::2], strict=True):
            labelled.update(range(start, stop + 1))  # includes the token that ends the turn
        row = Rendered([], [], key=dialogue.key, attributes=dialogue.attributes)
        media = iter(self.media)
        slots: list[MediaSlot] = []
        spans: list[SignalSpan] = []
        for position, token in enumerate(ids):
            if token == tokens.medium_id:
                self._enter(*next(media), row, slots, spans)
            else:
                row.input_ids.append(token)
                row.labels.append(token if position in labelled else IGNORE)
        return replace(row, slots=tuple(slots), spans=tuple(spans))

    def _enter(
        self,
        part: MediaPart,
        signal_ids: Sequence[int],
        learned: bool,
        row: Rendered,
        slots: list[MediaSlot],
        spans: list[SignalSpan],
    ) -> None:
        start = len(row.input_ids)
        if signal_ids:
            row.input_ids.extend(signal_ids)
            row.labels.extend(signal_ids if learned else [IGNORE] * len(signal_ids))
            if learned:
                self._learned(part, start, row, spans)
            return
        length = self.conversation.slot_lengths[part.modality]
        row.input_ids.extend([self.conversation.pad_token_id] * length)
        row.labels.extend([IGNORE] * length)
        assert part.media is not None
        slots.append(MediaSlot(part.modality, start, start + length, part.media))

    def _learned(self, part: MediaPart, start: int, row: Rendered, spans: list[SignalSpan]) -> None:
        """Record the span of a medium whose signal tokens begin at ``start``; words are checked where they end."""
        caption, media = part.caption or "", self.conversation.reply_media
        if part.modality not in media.words:
            stop = len(row.input_ids)
            spans.append(SignalSpan(part.modality, start, stop, caption, part.caption_embedding, part.media))
        elif self._opened is None:
            self._opened = start
        else:
            media.check_words(part.modality, caption, start - self._opened - 1, self.key)
            self._opened = None


def _only(modalities: Iterable[Modality]) -> str:
    names = ", ".join(modalities)
    return f", only {names}" if names else ""
