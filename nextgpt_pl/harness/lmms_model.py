"""The model class of the lmms-eval plugin; imported by lmms-eval only, since it derives from a class of it."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lmms_eval.api.model import lmms

from nextgpt_pl.errors import UserError
from nextgpt_pl.harness.batches import Request, Responder, numbered
from nextgpt_pl.harness.requests import modalities_of
from nextgpt_pl.pipeline import AnyToAny
from nextgpt_pl.utils.paths import CHAT_RUN

_BATCH = 16
_ONLY = "nextgpt_pl answers tasks of output_type generate_until; {} is not supported"


class NextGptPl(lmms):
    """A run of nextgpt_pl as a chat model of lmms-eval.

    Args:
        run: the run's folder, a repository that ``push`` made, or ``pocket:chat``.
        revision: revision of the repository.
        device: where the model runs; by default on the GPU of the process if there is one.
        batch_size: number of requests that are answered together; ``auto``: 16.
        seed: seed of generated media.
        modalities: media that replies contain, such as ``image+audio``; ``text``: no media; by default the task's
            ``generation_kwargs.modalities``, or else the model decides.
        output_dir: folder of generated media. Replies with media are then JSON objects with the paths, as tasks of
            image generation read them; without a folder, media are placeholders in the text.
        trust: dotted names of classes outside of nextgpt_pl that the run may name, separated by ``+``.
        max_batch_size: ignored; lmms-eval passes it to all models.

    Raises:
        UserError: the run cannot be read, or an argument is invalid.

    """

    is_simple = False

    def __init__(
        self,
        run: str = str(CHAT_RUN),
        revision: str | None = None,
        device: str | None = None,
        batch_size: int | str | None = None,
        seed: int = 0,
        modalities: str | None = None,
        output_dir: str | None = None,
        trust: str = "",
        max_batch_size: int | None = None,
    ) -> None:
        super().__init__()
        self._rank, self._world_size = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
        self.batch_size = _batch_size(batch_size)
        model = AnyToAny.from_pretrained(run, revision, device or _own_device(), list(filter(None, trust.split("+"))))
        self.device = next(model.network.parameters()).device
        folder = None if output_dir is None else Path(output_dir)
        self._responder = Responder(model, self.batch_size, seed, modalities_of(modalities), folder)

    def generate_until(self, requests: list[Any]) -> list[str]:
        """An answer per request, in order."""
        arguments = [request.args for request in requests]
        repeats = numbered([(task, split, document) for _, _, _, document, task, split in arguments])
        asked = [
            Request(task, document, repeat, partial(self._messages, to_messages, task, split, document), options)
            for (_, to_messages, options, document, task, split), repeat in zip(arguments, repeats, strict=True)
        ]
        answers = [""] * len(requests)
        for position, text in self._responder.answers(asked, silent=self.rank != 0):
            answers[position] = text
            context, _, options, *_ = arguments[position]
            self.cache_hook.add_partial("generate_until", (context, options), text)
        return answers

    def _messages(self, to_messages: Any, task: str, split: str, document: int) -> Any:
        return to_messages(self.task_dict[task][split][document])

    def loglikelihood(self, requests: list[Any]) -> list[tuple[float, bool]]:
        """Not supported: lmms-eval has no such requests of chat models."""
        raise NotImplementedError(
            "nextgpt_pl answers tasks of output_type generate_until; loglikelihood is not supported"
        )

    def generate_until_multi_round(self, requests: list[Any]) -> list[str]:
        """Not supported."""
        raise NotImplementedError(_ONLY.format("generate_until_multi_round"))


def _batch_size(value: int | str | None) -> int:
    if value in (None, "auto"):
        return _BATCH
    try:
        number = int(value)
    except ValueError:
        number = 0
    if number < 1:
        raise UserError(f"batch_size={value!r}: a whole number above 0, or auto")
    return number


def _own_device() -> str | None:
    """The GPU of this process under ``accelerate launch`` or ``torchrun``; ``None`` leaves the choice to the model."""
    gpus = torch.cuda.device_count()
    return f"cuda:{int(os.environ.get('LOCAL_RANK', '0')) % gpus}" if gpus else None
