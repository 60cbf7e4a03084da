"""From the body of a request to a job: options are checked and media are read, in threads."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from nextgpt_pl.batches import Rendered
from nextgpt_pl.dialogue.context import TooLongError
from nextgpt_pl.errors import UserError
from nextgpt_pl.generation.decoding import Decoding
from nextgpt_pl.generation.options import reply_options
from nextgpt_pl.pipeline import AnyToAny
from nextgpt_pl.serving.errors import RequestError
from nextgpt_pl.serving.jobs import Job
from nextgpt_pl.serving.options import ServerOptions
from nextgpt_pl.serving.schema import Chat

_SEEDS = 2**31


class Intake:
    """Makes jobs of requests.

    Args:
        model: renders prompts and reads media; generates nothing here.
        name: name of the model.
        options: limits.
        threads: where media are read and encoded.

    """

    def __init__(self, model: AnyToAny, name: str, options: ServerOptions, threads: ThreadPoolExecutor) -> None:
        self._model, self._name, self._options, self._threads = model, name, options, threads

    async def chat(self, body: Chat) -> Job:
        """The job of a chat.

        Raises:
            RequestError: the request is invalid, or above a limit.

        """
        options = {
            "max_new_tokens": self._max_tokens(body),
            "temperature": 0.0 if body.temperature is None else body.temperature,
            "top_p": 1.0 if body.top_p is None else body.top_p,
            "modalities": None if body.modalities is None else [m for m in body.modalities if m != "text"],
        }
        messages = [message.model_dump(exclude_none=True) for message in body.messages]
        return await self._job(messages, options, body.seed, body.model, streamed=bool(body.stream))

    async def _job(
        self,
        messages: Sequence[Mapping[str, Any]],
        options: Mapping[str, Any],
        seed: int | None,
        model: str | None,
        *,
        streamed: bool = False,
    ) -> Job:
        if model not in (None, self._name):
            raise RequestError(
                404, f"no model {model!r:.80}; this server has {self._name!r}", "model", "model_not_found"
            )
        read = partial(self._prompt, messages, options)
        prompt = await asyncio.get_running_loop().run_in_executor(self._threads, read)
        return Job(
            prompt,
            options,
            random.randrange(_SEEDS) if seed is None else seed,
            seeded=seed is not None,
            streamed=streamed,
            timeout=self._options.timeout,
        )

    def _max_tokens(self, body: Chat) -> int:
        given = body.max_tokens if body.max_completion_tokens is None else body.max_completion_tokens
        if given is not None and given > self._options.max_tokens:
            raise RequestError(400, f"max_tokens={given}: at most {self._options.max_tokens}", "max_tokens")
        return min(Decoding.max_new_tokens, self._options.max_tokens) if given is None else given

    def _prompt(self, messages: Sequence[Mapping[str, Any]], options: Mapping[str, Any]) -> Rendered:
        """In a thread."""
        contents = [message["content"] for message in messages]
        count = sum("text" not in part for content in contents if isinstance(content, list) for part in content)
        if count > self._options.max_media:
            raise RequestError(400, f"{count} media, at most {self._options.max_media} are read", "messages")
        try:
            reply_options(options, self._model.network.decoders)
            return self._model.prompt(messages, options["max_new_tokens"])
        except TooLongError as error:
            raise RequestError(400, str(error), "messages", "context_length_exceeded") from error
        except UserError as error:
            raise RequestError(400, str(error)) from error
