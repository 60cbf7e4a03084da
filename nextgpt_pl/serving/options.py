"""Options of the server."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from nextgpt_pl.errors import UserError, at_least

HTTPS = 443


@dataclass(frozen=True)
class ServerOptions:
    """Limits of the server.

    Args:
        queue: highest number of replies that wait or are written; further requests get status 429.
        batch_size: highest number of requests that are answered together, and of streams that are written at once.
        timeout: seconds until a request is given up.
        keep_alive: seconds without data after which a stream sends a comment, so that proxies keep the connection.
        max_body_mb: maximum size of a request in MB, with the media that are fetched for it.
        max_media: maximum number of media in a request.
        max_media_mb: maximum size of one medium in MB.
        max_tokens: maximum number of tokens of a reply that a request may ask for.
        readers: threads that read requests and their media.
        allow_host: hosts, as HOST or HOST:PORT, from which the media of messages are fetched by https; by default none.

    Raises:
        UserError: a number is out of bounds, or a host is not valid.

    """

    queue: int = 64
    batch_size: int = 8
    timeout: float = 300.0
    keep_alive: float = 15.0
    max_body_mb: float = 32.0
    max_media: int = 16
    max_media_mb: float = 24.0
    max_tokens: int = 1024
    readers: int = 4
    allow_host: Sequence[str] = ()

    def __post_init__(self) -> None:
        at_least(1, queue=self.queue, batch_size=self.batch_size, max_tokens=self.max_tokens, readers=self.readers)
        at_least(0, max_media=self.max_media)
        for name in ("timeout", "keep_alive", "max_body_mb", "max_media_mb"):
            if not 0 < getattr(self, name) < math.inf:
                raise UserError(f"{name}={getattr(self, name)}: a number above 0 is expected")
        self.origins()

    @property
    def max_body(self) -> int:
        """Maximum size of a request in bytes."""
        return int(self.max_body_mb * 1e6)

    @property
    def max_medium(self) -> int:
        """Maximum size of a medium in bytes."""
        return int(self.max_media_mb * 1e6)

    def origins(self) -> frozenset[tuple[str, int]]:
        """Host and port of each of ``allow_host``."""
        return frozenset(_origin(host) for host in self.allow_host)


def _origin(host: str) -> tuple[str, int]:
    try:
        parts = urlsplit(f"https://{host}")
        if parts.netloc == host and host.isascii() and "@" not in host and parts.hostname:
            return parts.hostname, parts.port or HTTPS
    except ValueError:  # a port that is no number
        pass
    raise UserError(f"allow_host={host!r}: HOST or HOST:PORT is expected, in ASCII and without https://")
