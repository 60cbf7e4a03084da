"""The processor class: messages to prompts with their media read, and replies to parts of messages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from transformers import BatchFeature, ProcessorMixin

from nextgpt_pl.batches import Rendered
from nextgpt_pl.dialogue.conversation import Conversation
from nextgpt_pl.encoders.base import Encoder
from nextgpt_pl.errors import UserError, nearest
from nextgpt_pl.generation.decoding import Decoding
from nextgpt_pl.generation.prompts import render_all, with_media_read
from nextgpt_pl.hub.configuration import ReadOnly, check_options, folder_of
from nextgpt_pl.modality import Modality
from nextgpt_pl.readers import chat
from nextgpt_pl.readers.chat import MediaAccess, Messages
from nextgpt_pl.samples import ReplyPart
from nextgpt_pl.saved_network import network_of, saved_config

#: arguments of ``apply_chat_template`` that transformers' examples give, with the only value that they may have
_FIXED = {"add_generation_prompt": True, "tokenize": True, "return_dict": True, "return_tensors": "pt"}


class NextGPTProcessor(ReadOnly, ProcessorMixin):
    """Renders messages as prompts. It reads the tokenizer and no weights.

    Args:
        conversation: renderer of the run's network.
        encoder: prepares media; it need not be loaded.

    """

    def __init__(self, conversation: Conversation, encoder: Encoder | None) -> None:
        self._conversation, self._encoder = conversation, encoder
        self.tokenizer = conversation.tokenizer
        self.chat_template = self.tokenizer.chat_template

    def __repr__(self) -> str:
        return f"{type(self).__name__}: {', '.join(self._encoder.modalities) if self._encoder else 'text'}"

    @classmethod
    def from_pretrained(cls, name: str | Path, *, trust: Sequence[str] = (), **options: Any) -> NextGPTProcessor:
        """The processor of a folder that ``push`` has written.

        Args:
            name: the folder, or ``user/name`` on the hub.
            trust: dotted names of classes outside this package that its ``config.yaml`` may name.
            options: of transformers, such as ``revision`` and ``token``.

        Raises:
            UserError: the folder is not a run, or names classes that are not trusted; or an option is unknown.

        """
        check_options(options)
        network = network_of(saved_config(folder_of(name, options)), trust)
        return cls(network.conversation(), network.encoder)

    def prompt(
        self, messages: Messages, max_new_tokens: int = Decoding.max_new_tokens, access: MediaAccess | None = None
    ) -> Rendered:
        """The prompt of one conversation, with its media read; data-loader workers may call it.

        Args:
            messages: see :mod:`nextgpt_pl.readers.chat`.
            max_new_tokens: maximum number of tokens of the reply. If the context has less room, the oldest exchanges
                are dropped with a warning.
            access: what media may be read from; by default any file, and no URL.

        Raises:
            UserError: a message is invalid, a medium cannot be read, or the last exchange alone does not fit.

        """
        (prompt,) = render_all(self._conversation, [messages], Decoding(max_new_tokens).max_new_tokens, access)
        return with_media_read(prompt, self._encoder)

    def apply_chat_template(
        self,
        conversation: Messages | Sequence[Messages],
        *,
        max_new_tokens: int = Decoding.max_new_tokens,
        access: MediaAccess | None = None,
        **fixed: Any,
    ) -> BatchFeature:
        """The prompts of one conversation or of several, as ``prompts`` of :meth:`NextGPTModel.generate`.

        Args:
            conversation: the messages.
            max_new_tokens: see :meth:`prompt`.
            access: see :meth:`prompt`.
            fixed: arguments of transformers, such as ``add_generation_prompt``, with the value that generation needs.

        Raises:
            UserError: see :meth:`prompt`; or an argument is unknown, or has another value.

        """
        for key, value in fixed.items():
            if key not in _FIXED:
                raise UserError(f"{key}: no such option{nearest(key, (*_FIXED, 'max_new_tokens', 'access'))}")
            if value != _FIXED[key]:
                raise UserError(f"{key}={value!r:.60}: {_FIXED[key]!r} is the only value here")
        one = not conversation or isinstance(conversation[0], Mapping)
        conversations: Any = [conversation] if one else conversation
        return BatchFeature({"prompts": [self.prompt(each, max_new_tokens, access) for each in conversations]})

    def __call__(
        self, text: str | None = None, images: Any = None, videos: Any = None, audio: Any = None, **options: Any
    ) -> BatchFeature:
        """The prompt of one message of a user; see :func:`user_message` and :meth:`apply_chat_template`."""
        return self.apply_chat_template([user_message(text, images, videos, audio)], **options)

    def decode(self, reply: Sequence[ReplyPart], **_: Any) -> list[dict[str, Any]]:
        """A reply as the content of a message, see :func:`message_part`."""
        return [message_part(part) for part in reply]

    def batch_decode(self, replies: Sequence[Sequence[ReplyPart]], **options: Any) -> list[list[dict[str, Any]]]:
        """Replies as contents of messages."""
        return [self.decode(reply, **options) for reply in replies]


def user_message(text: str | None = None, images: Any = None, videos: Any = None, audio: Any = None) -> dict[str, Any]:
    """A message of the user: the media, then the text.

    Args:
        text: the text.
        images: an image or a list of images, each as in ``{"type": "image", "image": IMAGE}``.
        videos: likewise.
        audio: likewise.

    """
    return chat.user_message(text, {Modality.IMAGE: images, Modality.VIDEO: videos, Modality.AUDIO: audio})


def message_part(part: ReplyPart) -> dict[str, Any]:
    """A part of a reply as a part of a message.

    ``{"type": "text", "text": STR}``, ``{"type": "image", "image": PIL_IMAGE}``, ``{"type": "video", "video": ARRAY,
    "rate": FPS}`` or ``{"type": "audio", "audio": ARRAY, "rate": HERTZ}``, with arrays as in :class:`Media`; the
    ``caption`` that the LLM wrote, if there is one; its ``origin``, if the decoder retrieves; and of a preview its
    ``step``.
    """
    if part.type == "text":
        return {"type": "text", "text": part.text}
    assert part.array is not None
    medium = Image.fromarray(part.array) if part.type == Modality.IMAGE else part.array
    origin = None if part.origin is None else part.origin.as_dict()
    about = {"rate": part.rate, "caption": part.caption, "step": part.step, "origin": origin}
    return {"type": part.type, part.type: medium, **{key: value for key, value in about.items() if value is not None}}
