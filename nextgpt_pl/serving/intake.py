"""From the body of a request to jobs: options are checked, and media are fetched and read, off the event loop."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from typing import Any

from nextgpt_pl.batches import Rendered
from nextgpt_pl.dialogue.context import TooLongError
from nextgpt_pl.errors import UserError
from nextgpt_pl.generation.decoding import Decoding
from nextgpt_pl.generation.options import reply_options
from nextgpt_pl.modality import Modality
from nextgpt_pl.pipeline import AnyToAny
from nextgpt_pl.serving.deadline import Deadline
from nextgpt_pl.serving.errors import RequestError
from nextgpt_pl.serving.fetching import Fetcher
from nextgpt_pl.serving.jobs import Job
from nextgpt_pl.serving.options import ServerOptions
from nextgpt_pl.serving.schema import SEEDS, Chat
from nextgpt_pl.serving.threads import in_thread

_RANDOM_SEEDS = 2**31


class Intake:
    """Makes jobs of requests.

    Args:
        model: renders prompts and reads media; generates nothing here.
        name: name of the model.
        options: limits.
        threads: where media are read and encoded.

    """

    def __init__(self, model: AnyToAny, name: str, options: ServerOptions, threads: Executor) -> None:
        self._model, self._name, self._options, self._threads = model, name, options, threads
        self._fetcher = Fetcher(options)

    async def chat(self, body: Chat, deadline: Deadline) -> Job:
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
        self._check_model(body.model)
        contents = [message.content for message in body.messages if not isinstance(message.content, str)]
        count = sum("text" not in part for content in contents for part in content)
        if count > self._options.max_media:
            raise RequestError(400, f"{count} media, at most {self._options.max_media} are read", "messages")
        messages = [message.model_dump(exclude_none=True) for message in body.messages]
        prompt = await self._read(await self._fetcher.fetched(messages), options, "messages")
        seeded = body.seed is not None
        return Job(prompt, options, _seed(body.seed), deadline, seeded=seeded, streamed=bool(body.stream))

    async def media(
        self,
        modality: Modality,
        prompt: str,
        field: str,
        n: int,
        seed: int | None,
        model: str | None,
        deadline: Deadline,
    ) -> list[Job]:
        """The jobs of ``n`` replies to a prompt that have a medium; reply k has the seed ``seed + k``.

        Args:
            modality: of the medium.
            prompt: the prompt.
            field: the prompt's name in the request.
            n: number of replies.
            seed: of the first reply; ``None``: a random one.
            model: name of the model.
            deadline: when the request is given up.

        Raises:
            RequestError: the request is invalid, or above a limit.

        """
        if n > self._options.queue:
            raise RequestError(400, f"n={n}: at most {self._options.queue}, which is the length of the queue", "n")
        self._check_model(model)
        options = {"max_new_tokens": self._default_tokens, "temperature": 0.0, "modalities": [modality.value]}
        read = await self._read([{"role": "user", "content": prompt}], options, field)
        first = _seed(seed)
        return [Job(read, options, (first + k) % SEEDS, deadline) for k in range(n)]

    def _check_model(self, name: str | None) -> None:
        if name not in (None, self._name):
            message = f"no model {name!r:.80}; this server has {self._name!r}"
            raise RequestError(404, message, "model", "model_not_found")

    @property
    def _default_tokens(self) -> int:
        return min(Decoding.max_new_tokens, self._options.max_tokens)

    def _max_tokens(self, body: Chat) -> int:
        given = body.max_tokens if body.max_completion_tokens is None else body.max_completion_tokens
        if given is not None and given > self._options.max_tokens:
            raise RequestError(400, f"max_tokens={given}: at most {self._options.max_tokens}", "max_tokens")
        return self._default_tokens if given is None else given

    async def _read(self, messages: Sequence[Mapping[str, Any]], options: Mapping[str, Any], field: str) -> Rendered:
        """The prompt of messages; ``field`` is their name in the request."""
        try:
            reply_options(options, self._model.network.decoders)
            return await in_thread(self._threads, self._model.prompt, messages, options["max_new_tokens"])
        except TooLongError as error:
            raise RequestError(400, str(error), field, "context_length_exceeded") from error
        except UserError as error:
            raise RequestError(400, str(error)) from error


def _seed(given: int | None) -> int:
    return random.randrange(_RANDOM_SEEDS) if given is None else given
