"""Time that parts of a step take, measured without host synchronisations."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch


class Stopwatch:
    """Sums the seconds of named sections of a step, once it is started.

    On a GPU the sections' events are read by :meth:`take` only, which waits for the last section.
    """

    def __init__(self) -> None:
        self._runs = False
        self._seconds: dict[str, float] = {}
        self._events: list[tuple[str, torch.cuda.Event, torch.cuda.Event]] = []

    def start(self) -> None:
        """Measure sections from now on."""
        self._runs = True

    def stop(self) -> None:
        """Measure no more sections, and forget those that were not taken."""
        self._runs = False
        self._seconds, self._events = {}, []

    @contextmanager
    def __call__(self, name: str, device: torch.device | str) -> Iterator[None]:
        """Add the time of this context to a section.

        Args:
            name: name of the section.
            device: device on which the section computes.

        """
        if not self._runs:
            yield
        elif torch.device(device).type == "cuda":
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            yield
            end.record()
            self._events.append((name, begin, end))
        else:
            start = time.perf_counter()
            yield
            self._add(name, time.perf_counter() - start)

    def _add(self, name: str, seconds: float) -> None:
        self._seconds[name] = self._seconds.get(name, 0.0) + seconds

    def take(self) -> dict[str, float]:
        """Seconds per section since the last call."""
        events, self._events = self._events, []
        if events:
            events[-1][2].synchronize()
        for name, begin, end in events:
            self._add(name, begin.elapsed_time(end) / 1000)
        taken, self._seconds = self._seconds, {}
        return taken
