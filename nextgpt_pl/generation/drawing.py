"""Draw the media of replies from caption embeddings or words; one also with previews, and until it is stopped."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from nextgpt_pl.decoders.base import DrawingStep, Made, OnStep
from nextgpt_pl.generation.signals import Condition
from nextgpt_pl.generation.stopping import Stop, stopping
from nextgpt_pl.modality import Modality
from nextgpt_pl.model import NextGPT
from nextgpt_pl.samples import ReplyPart

THREAD = "nextgpt_pl drawing"  # name of the threads that draw with previews


def draw(
    network: NextGPT,
    parts: Sequence[ReplyPart],
    conditions: Sequence[Condition],
    seeds: Sequence[int],
    sampling: Mapping[Modality, dict[str, Any]],
    on_step: OnStep | None = None,
) -> list[ReplyPart]:
    """Media of one modality, as parts of replies.

    Args:
        network: its decoders draw.
        parts: the part of each medium, without array.
        conditions: caption embedding of each medium, or its words.
        seeds: seed of each medium.
        sampling: sampling arguments per modality.
        on_step: see :meth:`~nextgpt_pl.decoders.base.Decoder.generate`.

    """
    modality = Modality(parts[0].type)
    decoder = network.decoders[modality]
    options = sampling[modality] if on_step is None else {**sampling[modality], "on_step": on_step}
    if decoder.takes_words:
        words = [condition for condition in conditions if isinstance(condition, str)]
        media = [Made(array) for array in decoder.generate_from_words(words, seed=list(seeds), **options)]
    else:
        embeddings = torch.stack([condition for condition in conditions if isinstance(condition, Tensor)])
        negative = network.null_signal(modality)
        if negative is None:
            negative = network.caption_embeddings.negative_prompt(modality)
        media = decoder.make(embeddings, seed=list(seeds), negative=negative, **options)
    return [
        replace(part, array=made.array, rate=decoder.rate, origin=made.origin)
        for part, made in zip(parts, media, strict=True)
    ]


def draw_one(
    draw_watched: Callable[[OnStep | None], list[ReplyPart]], part: ReplyPart, stop: Stop | None, previews: int
) -> Iterator[ReplyPart]:
    """Yield previews of a medium, and the medium.

    Args:
        draw_watched: draws one medium.
        part: a part without array, of the medium's modality.
        stop: called after each denoising step; when it returns true, drawing ends.
        previews: number of denoising steps between previews; 0: none. With previews, the medium is drawn in a thread,
            which ends within one step after the consumer closes the iterator.

    Raises:
        StoppedError: ``stop`` has returned true.

    """
    if not previews:
        yield from draw_watched(None if stop is None else stopping(stop))
        return
    results: queue.SimpleQueue[ReplyPart | BaseException] = queue.SimpleQueue()
    closed = threading.Event()
    check = stopping(lambda: closed.is_set() or (stop is not None and stop()))

    def on_step(step: DrawingStep) -> None:
        check(step)
        if step.number % previews == 0 and step.number < step.of:
            for array in step.preview():
                results.put(replace(part, array=array, step=(step.number, step.of)))

    arguments = (draw_watched, on_step, results, _current_gpu())
    thread = threading.Thread(target=_run, args=arguments, name=THREAD, daemon=True)
    thread.start()
    try:
        while True:
            result = results.get()
            if isinstance(result, BaseException):
                raise result
            yield result
            if result.step is None:
                return
    finally:
        closed.set()
        thread.join()


def _current_gpu() -> int | None:
    return torch.cuda.current_device() if torch.cuda.is_initialized() else None


def _run(
    draw_watched: Callable[[OnStep | None], list[ReplyPart]],
    on_step: OnStep,
    results: queue.SimpleQueue[ReplyPart | BaseException],
    gpu: int | None,
) -> None:
    """In the thread: its current GPU would be the first one."""
    try:
        if gpu is not None:
            torch.cuda.set_device(gpu)
        for part in draw_watched(on_step):
            results.put(part)
    except BaseException as error:  # raised in the consumer's thread
        results.put(error)
