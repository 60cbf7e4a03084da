"""Requests of lmms-eval in batches for the pipeline, with a progress bar; replies in the requests' order."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from nextgpt_pl.errors import UserError
from nextgpt_pl.generation.options import reply_options
from nextgpt_pl.harness.answers import text_and_files, text_with_placeholders
from nextgpt_pl.harness.requests import Options, conversation, options_of
from nextgpt_pl.samples import ReplyPart

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Request:
    """One request.

    Attributes:
        task: name of the task.
        document: number of the document in its split.
        repeat: number of equal requests before it.
        messages: gives the messages of ``doc_to_messages``, with their media.
        generation_kwargs: of the task.

    """

    task: str
    document: int
    repeat: int
    messages: Callable[[], Any]
    generation_kwargs: Mapping[str, Any]


@dataclass
class Responder:
    """Answers requests.

    Attributes:
        model: an :class:`~nextgpt_pl.pipeline.AnyToAny`.
        batch_size: number of requests that are answered together.
        seed: the media of a document are drawn with ``seed + 10 * document``, plus 10,000,000 per repeat.
        modalities: media that replies contain, unless the task says it; ``None``: the model decides.
        output_dir: folder of generated media; ``None``: they are placeholders in the text.

    """

    model: Any
    batch_size: int
    seed: int = 0
    modalities: Sequence[str] | None = None
    output_dir: Path | None = None
    _warned: set[str] = field(default_factory=set)

    def answers(self, requests: Sequence[Request], *, silent: bool = False) -> Iterator[tuple[int, str]]:
        """The position of each request and its answer, batch by batch.

        A request whose messages the model cannot read, such as one with a damaged image, gets an empty answer; their
        number is logged as an error at the end.

        Raises:
            UserError: the options of a task are invalid.

        """
        failed: list[str] = []
        with tqdm(total=len(requests), desc="nextgpt_pl", disable=silent) as bar:
            for options, batch in self._batches(requests):
                replies = self._replies([requests[i] for i in batch], options, failed)
                for position, reply in zip(batch, replies, strict=True):
                    yield position, self._text(requests[position], reply, options)
                bar.update(len(batch))
        if failed:
            _log.error("%d of %d requests have an empty answer, such as %s", len(failed), len(requests), failed[0])

    def _batches(self, requests: Sequence[Request]) -> Iterator[tuple[Options, list[int]]]:
        """Positions of requests with equal options, which are checked before the first batch."""
        groups: dict[str, list[int]] = {}
        for position, request in enumerate(requests):
            key = json.dumps(dict(request.generation_kwargs), sort_keys=True, default=str)
            groups.setdefault(key, []).append(position)
        options = {}
        for key, positions in groups.items():
            options[key] = options_of(requests[positions[0]].generation_kwargs, self.modalities)
            reply_options(options[key].decoding, self.model.network.decoders)
            self._warn(options[key].ignored)
        for key, positions in groups.items():
            for start in range(0, len(positions), self.batch_size):
                yield options[key], positions[start : start + self.batch_size]

    def _warn(self, ignored: Sequence[str]) -> None:
        for argument in set(ignored) - self._warned:
            _log.warning("generation_kwargs: %s has no counterpart in nextgpt_pl, and is ignored", argument)
        self._warned.update(ignored)

    def _replies(self, batch: Sequence[Request], options: Options, failed: list[str]) -> list[list[ReplyPart]]:
        try:
            return self._replied(batch, options)
        except UserError as error:
            if len(batch) == 1:
                failed.append(f"{batch[0].task}, document {batch[0].document}: {error}")
                return [[]]
        return [self._replies([request], options, failed)[0] for request in batch]

    def _replied(self, batch: Sequence[Request], options: Options) -> list[list[ReplyPart]]:
        seeds = [self.seed + 10 * request.document + 10_000_000 * request.repeat for request in batch]
        chats = [conversation(request.messages()) for request in batch]
        return self.model.batch(chats, seeds=seeds, seed=seeds[0], **options.decoding)

    def _text(self, request: Request, reply: Sequence[ReplyPart], options: Options) -> str:
        wanted = options.decoding["modalities"] or any(part.type != "text" for part in reply)
        if self.output_dir is None or not wanted:
            return text_with_placeholders(reply, options.until)
        name = f"{request.task}_{request.document}" + (f"_repeat{request.repeat}" if request.repeat else "")
        return text_and_files(reply, options.until, self.output_dir / name)


def numbered(keys: Sequence[Any]) -> list[int]:
    """How many equal keys precede each key.

    >>> numbered(["a", "b", "a"])
    [0, 0, 1]

    """
    seen = Counter[Any]()
    numbers = []
    for key in keys:
        numbers.append(seen[key])
        seen[key] += 1
    return numbers
