"""Conversations as prompts, within the LLM's context; prompts whose media are read beforehand."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from nextgpt_pl.batches import MediaSlot, Rendered
from nextgpt_pl.dialogue.context import ContextWarning, TooLongError, dropped_note, prompt_within
from nextgpt_pl.dialogue.conversation import Conversation
from nextgpt_pl.encoders.base import Encoder
from nextgpt_pl.features.keys import media_key
from nextgpt_pl.modality import Modality
from nextgpt_pl.readers.chat import MediaAccess, Messages, dialogue_of
from nextgpt_pl.samples import Dialogue, Media, Part, TextPart

#: a conversation, or its prompt
Prompt = Messages | Rendered


def render(
    conversation: Conversation, messages: Messages, max_new_tokens: int, access: MediaAccess | None = None
) -> tuple[Rendered, tuple[int, ...]]:
    """The prompt of a conversation without the oldest exchanges that leave no room for a reply.

    Args:
        conversation: renders dialogues.
        messages: the conversation.
        max_new_tokens: maximum number of tokens of the reply.
        access: what media may be read from.

    Returns:
        The prompt, and the positions of the dropped messages.

    Raises:
        TooLongError: the last exchange alone does not fit.
        UserError: a message is invalid.

    """
    dialogue = _as_shown(dialogue_of(messages, access), conversation.slot_lengths)
    return prompt_within(dialogue, conversation.prompt, conversation.context_length, max_new_tokens)


def _as_shown(dialogue: Dialogue, readable: Collection[Modality]) -> Dialogue:
    """The user's sounds as speech if that is the form of sound that the encoder reads, and the like."""
    forms = {m.form: m for m in readable if m.form is not m and m.form not in readable}
    if not forms:
        return dialogue
    messages = [
        replace(message, parts=tuple(_in_form(part, forms) for part in message.parts))
        if message.role == "user"
        else message
        for message in dialogue.messages
    ]
    return replace(dialogue, messages=tuple(messages))


def _in_form(part: Part, forms: Mapping[Modality, Modality]) -> Part:
    if isinstance(part, TextPart) or part.modality not in forms:
        return part
    modality = forms[part.modality]
    return replace(
        part, modality=modality, media=None if part.media is None else replace(part.media, modality=modality)
    )


def render_all(
    conversation: Conversation,
    conversations: Sequence[Prompt],
    max_new_tokens: int,
    access: MediaAccess | None = None,
) -> list[Rendered]:
    """The prompts of conversations, with a warning for each that is shortened; prompts are returned as they are."""
    prompts = []
    for number, messages in enumerate(conversations):
        if isinstance(messages, Rendered):
            prompts.append(messages)
            continue
        prompt, dropped = render(conversation, messages, max_new_tokens, access)
        prompts.append(prompt)
        if dropped:
            which = f"conversation {number}: " if len(conversations) > 1 else ""
            warnings.warn(which + dropped_note(len(dropped)), ContextWarning, stacklevel=4)
    return prompts


def render_read(
    conversation: Conversation,
    messages: Messages,
    max_new_tokens: int,
    encoder: Encoder | None,
    access: MediaAccess | None = None,
) -> Rendered:
    """The prompt of a conversation that fits; it holds the encoder's inputs instead of the media themselves.

    Raises:
        TooLongError: the conversation does not fit.
        UserError: a message is invalid, or a medium cannot be read.

    """
    prompt, dropped = render(conversation, messages, max_new_tokens, access)
    if dropped:
        raise TooLongError(
            f"the conversation and max_new_tokens={max_new_tokens} need more tokens than the LLM's context has, which"
            f" is {conversation.context_length}; leave out its {len(dropped)} oldest messages"
        )
    return with_media_read(prompt, encoder)


def with_media_read(prompt: Rendered, encoder: Encoder | None) -> Rendered:
    """A prompt that holds the encoder's inputs instead of the media themselves.

    Raises:
        UserError: a medium cannot be read.

    """
    if encoder is None:
        return prompt
    return replace(prompt, slots=tuple(_read(slot, encoder) for slot in prompt.slots))


def _read(slot: MediaSlot, encoder: Encoder) -> MediaSlot:
    source = _AlreadyRead(media_key(slot.media))
    return replace(slot, inputs=encoder.prepare(slot.media), media=Media(slot.modality, source))


@dataclass(frozen=True)
class _AlreadyRead:
    """In the place of a medium whose inputs are there: identifies its features."""

    key: bytes

    def content_key(self) -> bytes:
        """The key of the medium's content."""
        return self.key

    def __call__(self) -> np.ndarray:
        raise AssertionError("a medium that is read already is read again")
