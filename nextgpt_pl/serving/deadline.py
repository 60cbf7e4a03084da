"""When a request is given up."""

from __future__ import annotations

import time

from nextgpt_pl.serving.errors import RequestError


class Deadline:
    """The end of the time that a request has, from its arrival on.

    Args:
        seconds: how long it has.

    """

    def __init__(self, seconds: float) -> None:
        self._seconds, self._end = seconds, time.monotonic() + seconds

    @property
    def remaining(self) -> float:
        """Seconds until it; 0 when it is over."""
        return max(0.0, self._end - time.monotonic())

    @property
    def over(self) -> bool:
        """Whether it has passed."""
        return time.monotonic() > self._end

    def error(self) -> RequestError:
        """The error of a request that has taken too long."""
        return RequestError(504, f"not answered within {self._seconds:g} seconds", code="timeout")
