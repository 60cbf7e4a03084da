"""The pipeline class of the task ``any-to-any``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from transformers import Pipeline

from nextgpt_pl.batches import Rendered
from nextgpt_pl.errors import UserError
from nextgpt_pl.generation.replies import Reply
from nextgpt_pl.hub.configuration import ReadOnly
from nextgpt_pl.hub.processor import message_part, user_message
from nextgpt_pl.readers.chat import MediaAccess, Messages

#: arguments of transformers' ``pipeline`` that it passes on
_OF_LOADING = ("local_files_only", "torch_dtype")


@dataclass(frozen=True)
class _Asked:
    messages: Messages
    prompt: Rendered


@dataclass(frozen=True)
class _Answered:
    messages: Messages
    reply: Reply


class NextGPTPipeline(ReadOnly, Pipeline):
    """Replies to messages with ordered parts of text and media.

    >>> pipe = pipeline("any-to-any", model=FOLDER, trust_remote_code=True)  # doctest: +SKIP
    >>> pipe([{"role": "user", "content": "Draw a red star."}], seed=1)[0]["generated_text"][-1]  # doctest: +SKIP
    {'role': 'assistant', 'content': [{'type': 'text', 'text': 'Here it is.'}, {'type': 'image', 'image': ...}]}
    """

    _load_processor = True
    _load_tokenizer = False
    _load_image_processor = False
    _load_feature_extractor = False
    _load_video_processor = False

    def __call__(
        self, text: Any = None, images: Any = None, videos: Any = None, audio: Any = None, **options: Any
    ) -> Any:
        """Reply to one conversation, or to several.

        Args:
            text: the messages of one conversation, see :mod:`nextgpt_pl.readers.chat`; one message's text; a list, a
                generator or a dataset of either.
            images: an image or a list of images of the message, before its text; so ``videos`` and ``audio``.
            videos: see ``images``.
            audio: see ``images``.
            options: of :meth:`nextgpt_pl.pipeline.AnyToAny.stream`, such as ``seed``, ``max_new_tokens`` and
                ``temperature``; ``generate_kwargs``, a dictionary of such; ``access``, what media may be read from;
                ``return_full_text=False``: the reply without the messages; ``batch_size`` and ``num_workers``.

        Returns:
            Of each conversation a list of one dictionary: ``input_text``, its messages; and ``generated_text``, the
            messages with the assistant's, whose content is a list of parts, see
            :func:`~nextgpt_pl.hub.processor.message_part`.

        Raises:
            UserError: a message or an option is invalid.

        """
        if images is not None or videos is not None or audio is not None:
            if not isinstance(text, str | None):
                raise UserError("images, videos and audio belong to one text; write media of conversations as parts")
            text = [user_message(text, images, videos, audio)]
        if text is None or text == []:
            raise UserError("no messages: give a list of messages, a text, or images, videos or audio")
        return super().__call__(text, **options)

    def stream(self, messages: Messages, *, access: MediaAccess | None = None, **options: Any) -> Iterator[Any]:
        """Yield the parts of a reply while it is generated, as parts of messages.

        Args:
            messages: one conversation.
            access: what media may be read from.
            options: see :meth:`nextgpt_pl.pipeline.AnyToAny.stream`.

        """
        given, own, _ = self._sanitize_parameters(access=access, **options)
        asked = self.preprocess(messages, **{**self._preprocess_params, **given})["asked"]
        for part in self.model.chat.stream(asked.prompt, **{**self._forward_params, **own}):
            yield message_part(part)

    def _sanitize_parameters(
        self,
        access: MediaAccess | None = None,
        return_full_text: bool | None = None,
        generate_kwargs: dict[str, Any] | None = None,
        **options: Any,
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        options = {key: value for key, value in options.items() if key not in _OF_LOADING}
        if twice := sorted(options.keys() & (generate_kwargs or {}).keys()):
            raise UserError(f"{twice[0]}: given twice, also in generate_kwargs")
        options = {**options, **(generate_kwargs or {})}
        rendering = {key: options[key] for key in ("max_new_tokens",) if key in options}
        if access is not None:
            rendering["access"] = access
        return rendering, options, {} if return_full_text is None else {"return_full_text": return_full_text}

    def preprocess(self, inputs: Any, **options: Any) -> dict[str, Any]:
        """The prompt of a conversation; data-loader workers may call it."""
        messages = getattr(inputs, "messages", inputs)  # transformers wraps conversations
        if isinstance(messages, str):
            messages = [user_message(messages)]
        return {"asked": _Asked(messages, self.processor.prompt(messages, **options))}

    def _forward(self, model_inputs: dict[str, Any], **options: Any) -> dict[str, Any]:
        asked = model_inputs["asked"]
        batch: list[_Asked] = asked if isinstance(asked, list) else [asked]
        replies = self.model.generate([one.prompt for one in batch], **options)
        answered = [_Answered(one.messages, reply) for one, reply in zip(batch, replies, strict=True)]
        return {"answered": answered if isinstance(asked, list) else answered[0]}

    def postprocess(self, model_outputs: dict[str, Any], return_full_text: bool = True) -> list[dict[str, Any]]:
        """The record of a conversation."""
        answered: _Answered = model_outputs["answered"]
        content = self.processor.decode(answered.reply)
        full = [*answered.messages, {"role": "assistant", "content": content}]
        return [{"input_text": answered.messages, "generated_text": full if return_full_text else content}]
