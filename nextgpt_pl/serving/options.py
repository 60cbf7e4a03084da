"""Options of the server."""

from __future__ import annotations

import math
from dataclasses import dataclass

from nextgpt_pl.errors import UserError, at_least


@dataclass(frozen=True)
class ServerOptions:
    """Limits of the server.

    Args:
        queue: highest number of requests that wait or are answered; further ones get status 429.
        batch_size: highest number of requests that are answered together, and of streams that are written at once.
        timeout: seconds until a request is given up.
        max_body_mb: maximum size of a request in MB.
        max_media: maximum number of media in a request.
        max_tokens: maximum number of tokens of a reply that a request may ask for.
        readers: threads that read the media of requests.

    Raises:
        UserError: a number is out of bounds.

    """

    queue: int = 64
    batch_size: int = 8
    timeout: float = 300.0
    max_body_mb: float = 32.0
    max_media: int = 16
    max_tokens: int = 1024
    readers: int = 4

    def __post_init__(self) -> None:
        at_least(1, queue=self.queue, batch_size=self.batch_size, max_tokens=self.max_tokens, readers=self.readers)
        at_least(0, max_media=self.max_media)
        for name in ("timeout", "max_body_mb"):
            if not 0 < getattr(self, name) < math.inf:
                raise UserError(f"{name}={getattr(self, name)}: a number above 0 is expected")
