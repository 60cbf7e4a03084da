"""Ending a generation before its end."""

from __future__ import annotations

from collections.abc import Callable

from nextgpt_pl.decoders.base import DrawingStep, OnStep

Stop = Callable[[], bool]


class StoppedError(Exception):
    """The consumer has stopped a reply."""


def stopping(stop: Stop) -> OnStep:
    """Ends drawing: a callback of denoising steps that raises :class:`StoppedError` when ``stop`` returns true."""

    def on_step(_step: DrawingStep) -> None:
        if stop():
            raise StoppedError

    return on_step
