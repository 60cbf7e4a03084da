"""Conversations as token ids: chat template, label mask, media slots and signal spans.

The chat template is rendered once with marks around each message and at each medium; the text between marks is then
tokenised piece by piece. So labels, slots and spans are exact by construction, and a prompt is tokenised the same in
training and in generation.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from nextgpt_pl.errors import UserError
from nextgpt_pl.modality import MODALITIES, Modality
from nextgpt_pl.samples import (
    CaptionedPair,
    Dialogue,
    MediaPart,
    MediaSlot,
    Message,
    Part,
    Rendered,
    SignalSpan,
    TextPart,
)

IGNORE = -100
# private-use characters: no tokenizer's vocabulary and no sensible text holds them. A chat template may move them.
OPEN, CLOSE, MEDIUM = "\ue000", "\ue001", "\ue002"
_MARKS = re.compile(f"([{OPEN}{CLOSE}{MEDIUM}])")
_PLACEHOLDER = re.compile("(" + "|".join(re.escape(spec.placeholder) for spec in MODALITIES.values()) + ")")
_BY_PLACEHOLDER = {spec.placeholder: spec.modality for spec in MODALITIES.values()}

# ways to ask for a caption, where a source brings none of its own
_QUESTIONS = (
    "Describe this {}.",
    "What is this {} about?",
    "Say in one sentence what this {} shows.",
    "Give a short caption for the {}.",
    "What is the content of this {}?",
)

Direction = Literal["generation", "comprehension"]
MediaAs = Literal["signals", "captions"]


def pair_to_dialogue(pair: CaptionedPair, direction: Direction) -> Dialogue:
    """A captioned pair as one exchange.

    Generation: the user asks (the pair's instruction, else the caption alone), the assistant answers with the medium,
    inside the pair's response where it has one. Comprehension: the user shows the medium and asks (the pair's question,
    else a usual one), the assistant answers with the pair's description, else its caption.
    """
    medium = MediaPart(pair.modality, pair.media, pair.caption, pair.caption_embedding)
    if direction == "generation":
        asked: tuple[Part, ...] = (TextPart(pair.instruction or pair.caption),)
        answer = parts_of(pair.response, [medium], pair.key) if pair.response else (medium,)
    else:
        text = pair.question or _question(pair)
        placeholder = MODALITIES[pair.modality].placeholder
        shown = text if placeholder in text else f"{placeholder}\n{text}"
        asked = parts_of(shown, [medium], pair.key)
        answer = (TextPart(pair.description or pair.caption),)
    return Dialogue(pair.key, (Message("user", asked), Message("assistant", answer)), pair.attributes)


def _question(pair: CaptionedPair) -> str:
    """One of a few ways to ask for a caption; an item is always asked in the same way."""
    return _QUESTIONS[zlib.crc32(pair.key.encode()) % len(_QUESTIONS)].format(pair.modality)


def parts_of(text: str, media: Sequence[MediaPart], key: str) -> tuple[Part, ...]:
    """Split text at ``<image>``, ``<video>``, ``<audio>`` and put the media in, in order.

    Raises:
        UserError: placeholders and media do not match in number or kind.

    """
    parts: list[Part] = []
    left = list(media)
    for piece in _PLACEHOLDER.split(text):
        modality = _BY_PLACEHOLDER.get(piece)
        if modality is None:
            if piece:
                parts.append(TextPart(piece))
            continue
        if not left or left[0].modality is not modality:
            following = left[0].modality if left else "no more media"
            raise UserError(f"{key}: the text has {piece}, but the item gives {following} there: {text!r}")
        parts.append(left.pop(0))
    if left:
        raise UserError(f"{key}: {len(left)} media without a placeholder such as {left[0].modality} in {text!r}")
    return tuple(parts)


@dataclass
class Conversation:
    """Turns items into :class:`Rendered`; the data modules' collate function calls it in their workers.

    Attributes:
        tokenizer: with a chat template.
        signal_ids: ids of each modality's signal tokens, in order.
        slot_lengths: token positions that an input medium takes, per modality.
        embedding_shapes: caption embedding shapes that the decoders expect, per modality.
        direction: how a captioned pair is read.
        media_as: whether the assistant's media are signal spans, or captions between the first and last signal token.

    """

    tokenizer: Any
    signal_ids: Mapping[Modality, Sequence[int]]
    slot_lengths: Mapping[Modality, int] = field(default_factory=dict)
    embedding_shapes: Mapping[Modality, tuple[int, ...]] = field(default_factory=dict)
    direction: Direction = "generation"
    media_as: MediaAs = "signals"

    @property
    def pad_token_id(self) -> int:
        """Id that fills batches on the right; masked, so which one it is does not matter."""
        return int(self.tokenizer.pad_token_id)

    def __call__(self, item: CaptionedPair | Dialogue) -> Rendered:
        """Render one item.

        Raises:
            UserError: a medium that no decoder makes or no encoder reads, or a template that drops messages.

        """
        dialogue = pair_to_dialogue(item, self.direction) if isinstance(item, CaptionedPair) else item
        return self.render(dialogue)

    def render(self, dialogue: Dialogue, *, add_generation_prompt: bool = False) -> Rendered:
        """Token ids, labels on the assistant's turns (with the token that ends them), slots and spans."""
        writer = _Writer(self, dialogue)
        media = [p for m in dialogue.messages for p in m.parts if isinstance(p, MediaPart)]
        message = medium = -1
        inside = False
        for piece in _MARKS.split(self._marked(dialogue, add_generation_prompt)):
            if piece == OPEN:
                message, inside = message + 1, True
            elif piece == CLOSE:
                inside = False
                writer.closing = dialogue.messages[message].role == "assistant"
            elif piece == MEDIUM:
                medium += 1
                writer.medium(media[medium], dialogue.messages[message].role == "assistant")
            elif piece:
                writer.text(piece, content=inside, label=inside and dialogue.messages[message].role == "assistant")
        if (message + 1, medium + 1) != (len(dialogue.messages), len(media)):
            raise UserError(
                f"{dialogue.key}: the chat template drops messages ({message + 1} of {len(dialogue.messages)})"
            )
        return writer.rendered(dialogue)

    def _marked(self, dialogue: Dialogue, add_generation_prompt: bool) -> str:
        messages = [
            {"role": m.role, "content": OPEN + "".join(_marked_part(p) for p in m.parts) + CLOSE}
            for m in dialogue.messages
        ]
        return str(
            self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=add_generation_prompt)
        )


def _marked_part(part: Part) -> str:
    return _MARKS.sub("", part.text) if isinstance(part, TextPart) else MEDIUM


class _Writer:
    """Collects token ids, labels, slots and spans of one dialogue."""

    def __init__(self, conversation: Conversation, dialogue: Dialogue) -> None:
        self.conversation, self.key = conversation, dialogue.key
        self.ids: list[int] = []
        self.labels: list[int] = []
        self.slots: list[MediaSlot] = []
        self.spans: list[SignalSpan] = []
        self.closing = False  # an assistant's turn has just ended: its end token is still to be learned

    def text(self, text: str, *, content: bool, label: bool) -> None:
        # special tokens typed by a user are plain text; those of the template are not
        ids = self.conversation.tokenizer(text, add_special_tokens=False, split_special_tokens=content).input_ids
        self.ids += ids
        self.labels += ids if label else [IGNORE] * len(ids)
        if self.closing and ids:
            self.labels[len(self.ids) - len(ids)] = ids[0]
        self.closing = False

    def medium(self, part: MediaPart, produced: bool) -> None:
        start = len(self.ids)
        if produced:
            signal_ids = self.conversation.signal_ids.get(part.modality)
            if not signal_ids:
                raise UserError(f"{self.key}: the assistant is to produce {part.modality}, but no decoder makes it")
            if part.caption is None:
                raise UserError(f"{self.key}: the assistant's {part.modality} has no caption to learn from")
            if self.conversation.media_as == "captions":
                self._signals(signal_ids[:1])
                self.text(part.caption, content=True, label=True)
                self._signals(signal_ids[-1:])
                return
            self._signals(signal_ids)
            self.spans.append(
                SignalSpan(part.modality, start, len(self.ids), part.caption, part.caption_embedding, part.media)
            )
            return
        length = self.conversation.slot_lengths.get(part.modality)
        if not length:
            raise UserError(f"{self.key}: the user shows {part.modality}, but no encoder reads it")
        self.ids += [self.conversation.pad_token_id] * length
        self.labels += [IGNORE] * length
        if part.media is None:
            raise UserError(f"{self.key}: the user shows {part.modality}, but the item has no file of it")
        self.slots.append(MediaSlot(part.modality, start, len(self.ids), part.media))

    def _signals(self, ids: Sequence[int]) -> None:
        self.ids += ids
        self.labels += ids

    def rendered(self, dialogue: Dialogue) -> Rendered:
        return Rendered(self.ids, self.labels, tuple(self.slots), tuple(self.spans), dialogue.key, dialogue.attributes)
