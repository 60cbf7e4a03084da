"""Conversations as token ids: chat template, label mask, media slots and signal spans.

The chat template is rendered with marks around each message and at each medium, then tokenised as one string. The ids
equal those of the template without marks, except that special tokens spelled inside a message are plain text. A prompt
has the same ids in training and in generation: it ends before the spaces in front of the reply, since many tokenizers
merge them with the next word.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from nextgpt_pl.batches import Rendered
from nextgpt_pl.dialogue.history import MediaInHistory, learned_ranges
from nextgpt_pl.dialogue.marked_template import MARKS, marked_text, opened, turns_change
from nextgpt_pl.dialogue.reply_media import ReplyMedia
from nextgpt_pl.dialogue.row_writer import RowWriter
from nextgpt_pl.dialogue.template_tokens import (
    CLOSE,
    MEDIUM,
    Piece,
    TemplateTokens,
    check_text,
)
from nextgpt_pl.errors import UserError
from nextgpt_pl.modality import MODALITIES, Modality
from nextgpt_pl.samples import CaptionedPair, Dialogue, MediaPart, Message, Part, TextPart

_PLACEHOLDER = re.compile("(" + "|".join(re.escape(spec.placeholder) for spec in MODALITIES.values()) + ")")
_BY_PLACEHOLDER = {spec.placeholder: spec.modality for spec in MODALITIES.values()}

# questions for a caption, for sources without questions
_QUESTIONS = (
    "Describe this {}.",
    "What is this {} about?",
    "Say in one sentence what this {} shows.",
    "Give a short caption for the {}.",
    "What is the content of this {}?",
)

Direction = Literal["generation", "comprehension"]


def pair_to_dialogue(pair: CaptionedPair, direction: Direction) -> Dialogue:
    """Convert a captioned pair to a dialogue of one exchange.

    Generation: the user gives the pair's instruction, or its caption; the assistant replies with the medium, inside the
    pair's response if there is one. Comprehension: the user shows the medium with the pair's question, or a default
    one; the assistant replies with the pair's description, or its caption.
    """
    medium = MediaPart(pair.modality, pair.media, pair.caption, pair.caption_embedding)
    if direction == "generation":
        question_parts: tuple[Part, ...] = (TextPart(pair.instruction or pair.caption),)
        answer = parts_of(pair.response, [medium], pair.key) if pair.response else (medium,)
    else:
        text = pair.question or _question(pair)
        placeholder = MODALITIES[pair.modality].placeholder
        prompt_text = text if placeholder in text else f"{placeholder}\n{text}"
        question_parts = parts_of(prompt_text, [medium], pair.key)
        answer = (TextPart(pair.description or pair.caption),)
    return Dialogue(pair.key, (Message("user", question_parts), Message("assistant", answer)), pair.attributes)


def _question(pair: CaptionedPair) -> str:
    """A question that asks for a caption, chosen by a hash of the medium's file name, not by the row number."""
    source = pair.media.source if pair.media is not None else None
    name = source.name if isinstance(source, Path) else pair.key
    return _QUESTIONS[zlib.crc32(name.encode("utf-8", "surrogatepass")) % len(_QUESTIONS)].format(pair.modality)


def parts_of(text: str, media: Sequence[MediaPart], key: str) -> tuple[Part, ...]:
    """Split text at ``<image>``, ``<video>``, ``<audio>`` and insert the media in order.

    Raises:
        UserError: placeholders and media do not match in number or kind.

    """
    parts: list[Part] = []
    remaining = list(media)
    for piece in _PLACEHOLDER.split(text):
        modality = _BY_PLACEHOLDER.get(piece)
        if modality is None:
            if piece:
                parts.append(TextPart(piece))
            continue
        if not remaining or remaining[0].modality is not modality:
            following = remaining[0].modality if remaining else "no more media"
            raise UserError(f"{key}: the text has {piece}, but the item gives {following} there: {text!r}")
        parts.append(remaining.pop(0))
    if remaining:
        raise UserError(
            f"{key}: {len(remaining)} media without a placeholder such as {remaining[0].modality} in {text!r}"
        )
    return tuple(parts)


@dataclass
class Conversation:
    """Renders items as :class:`Rendered`; called in data-loader workers.

    Attributes:
        tokenizer: with a chat template.
        signal_ids: ids of each modality's signal tokens, in order.
        slot_lengths: number of token positions of an input medium, per modality.
        embedding_shapes: caption embedding shapes that the decoders expect, per modality.
        direction: ``generation`` or ``comprehension`` of captioned pairs.
        reply_media: how the assistant's media are represented.
        context_length: maximum number of tokens of the LLM, reply included; ``None``: unlimited.
        media_in_history: how later turns see the assistant's media: as ``signals``, as ``features`` of the encoder, or
            as ``both``. A medium that no encoder reads stands as signals.

    """

    tokenizer: Any
    signal_ids: Mapping[Modality, Sequence[int]]
    slot_lengths: Mapping[Modality, int] = field(default_factory=dict)
    embedding_shapes: Mapping[Modality, tuple[int, ...]] = field(default_factory=dict)
    direction: Direction = "generation"
    reply_media: ReplyMedia = field(default_factory=ReplyMedia)
    context_length: int | None = None
    media_in_history: MediaInHistory = "signals"

    @property
    def pad_token_id(self) -> int:
        """Id that fills batches on the right; masked, so which one it is does not matter."""
        return int(self.tokenizer.pad_token_id)

    def __call__(self, item: CaptionedPair | Dialogue) -> Rendered:
        """Render one item as one row, with the assistant's media as it writes them.

        Raises:
            UserError: a medium has no decoder or encoder, or the template drops or refuses messages.

        """
        return self.render(self.as_dialogue(item))

    def rows(self, item: CaptionedPair | Dialogue) -> list[Rendered]:
        """The training rows of an item; each label of the item is in one of them.

        There is one row, unless later turns see earlier ones in another form: media that the assistant wrote as signals
        (:attr:`media_in_history`), or thoughts that the chat template drops. Then each turn is learned in the context
        that it has in generation, in a row of its own where contexts differ.

        Raises:
            UserError: see :meth:`__call__`; or a medium of an earlier turn has no file to be shown.

        """
        dialogue = self.as_dialogue(item)
        return [
            self.render(replace(dialogue, messages=dialogue.messages[: learned.stop]), earlier=learned.start)
            for learned in learned_ranges(dialogue, self.shown_in_history, apart=self._apart(dialogue))
        ]

    @cached_property
    def shown_in_history(self) -> frozenset[Modality]:
        """Modalities whose media later turns see as features of the encoder."""
        readable = frozenset(m for m, length in self.slot_lengths.items() if length)
        return frozenset() if self.media_in_history == "signals" else readable

    def _apart(self, dialogue: Dialogue) -> bool:
        """Whether the chat template requires a row of its own for each turn."""
        return self._turns_change[dialogue.messages[0].role == "system"]

    @cached_property
    def _turns_change(self) -> tuple[bool, bool]:
        """Whether the template changes earlier turns: without a system message, and with one."""
        return turns_change(self.tokenizer, False), turns_change(self.tokenizer, True)

    def prompt(self, dialogue: Dialogue) -> Rendered:
        """A conversation that ends with the user, up to where the reply begins; see :meth:`render`."""
        return self.render(dialogue, add_generation_prompt=True, earlier=len(dialogue.messages))

    def as_dialogue(self, item: CaptionedPair | Dialogue) -> Dialogue:
        """The item as it is rendered: a pair becomes an exchange."""
        return pair_to_dialogue(item, self.direction) if isinstance(item, CaptionedPair) else item

    @cached_property
    def _tokens(self) -> TemplateTokens:
        return TemplateTokens(self.tokenizer)

    def render(self, dialogue: Dialogue, *, add_generation_prompt: bool = False, earlier: int = 0) -> Rendered:
        """Token ids, slots, spans, and labels on the assistant's learned turns including the token that ends each.

        Args:
            dialogue: the messages.
            add_generation_prompt: end with the begin of a reply.
            earlier: number of leading messages whose media are rendered as :attr:`media_in_history` says. If that shows
                media, or if the template changes earlier turns, these messages have no labels and no spans.

        """
        for part in (part for message in dialogue.messages for part in message.parts):
            check_text((part.text if isinstance(part, TextPart) else part.caption) or "", dialogue.key)
        writer = RowWriter(self, dialogue)
        earlier = earlier if self.shown_in_history or (earlier and self._apart(dialogue)) else 0
        message, inside = 0, False
        media: Iterator[MediaPart] = iter(())
        for piece in self._pieces(dialogue, add_generation_prompt):
            turn = dialogue.messages[message]
            if (number := opened(piece)) is not None:
                message, turn = number, dialogue.messages[number]
                media = (part for part in turn.parts if isinstance(part, MediaPart))
            if number is not None or piece == CLOSE:
                inside = piece != CLOSE
                if turn.is_target and message >= earlier:
                    writer.border(opens=inside)
            elif piece == MEDIUM:
                context = message < earlier or not turn.learned
                writer.medium(next(media), turn.role == "assistant", earlier=context)
            elif piece:
                writer.pieces.append(Piece(piece, typed=inside))
        if add_generation_prompt:
            writer.without_blanks()
        return writer.rendered(dialogue, self._tokens)

    def _pieces(self, dialogue: Dialogue, add_generation_prompt: bool) -> list[str]:
        """The rendered template, split at its marks.

        Raises:
            UserError: the template refuses the messages, or writes a message not once, or none of its media.

        """
        pieces = MARKS.split(marked_text(self.tokenizer, dialogue, add_generation_prompt=add_generation_prompt))
        numbers = [number for piece in pieces if (number := opened(piece)) is not None]
        count, media = len(dialogue.messages), sum(isinstance(p, MediaPart) for m in dialogue.messages for p in m.parts)
        if sorted(numbers) != list(range(count)) or pieces.count(MEDIUM) != media:
            raise UserError(
                f"{dialogue.key}: the chat template drops messages ({len(set(numbers))} of {count}), or repeats some"
            )
        return pieces
