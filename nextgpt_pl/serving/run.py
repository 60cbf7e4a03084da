"""Run the application with uvicorn until a signal ends it."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import uvicorn
from fastapi import FastAPI

from nextgpt_pl.errors import UserError


class _Server(uvicorn.Server):
    """Tells where it listens, and when it ends; a second Ctrl-C does not wait for requests."""

    def __init__(
        self, config: uvicorn.Config, started: Callable[[str], None], ending: Callable[[], None] | None
    ) -> None:
        super().__init__(config)
        self._tell, self._ending = started, ending

    async def startup(self, sockets: Any = None) -> None:
        """Listen, then tell the address, whose port may have been chosen by the system."""
        await super().startup(sockets)
        if self.started:
            host, port = self.servers[0].sockets[0].getsockname()[:2]
            self._tell(f"http://{f'[{host}]' if ':' in host else host}:{port}")

    async def shutdown(self, sockets: Any = None) -> None:
        """Refuse new requests, and wait for those that run."""
        if self._ending is not None:
            self._ending()
        await super().shutdown(sockets)

    def handle_exit(self, sig: int, frame: Any) -> None:
        """Begin to end; at a second Ctrl-C, end the process at once if nothing ends its requests."""
        if self.should_exit and sig == signal.SIGINT and self._ending is None:
            os._exit(128 + sig)
        super().handle_exit(sig, frame)


def check_address(host: str, port: int) -> None:
    """Check that a server could listen, before a model is loaded.

    Raises:
        UserError: there is no such address, or the port is taken.

    """
    if not 0 <= port < 2**16:
        raise UserError(f"port={port}: a number from 0 to {2**16 - 1} is expected")
    try:
        for family, kind, protocol, _, address in socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        ):
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
    except OSError as error:
        raise UserError(f"host={host}, port={port}: {error.strerror}") from error


def run(
    app: FastAPI,
    host: str,
    port: int,
    grace: float,
    started: Callable[[str], None],
    ending: Callable[[], None] | None = None,
) -> int:
    """Serve until SIGTERM or Ctrl-C; then refuse new requests, and finish those that run.

    Args:
        app: the application.
        host: address to listen on.
        port: port to listen on; 0: any free one.
        grace: seconds for the requests that run at the end.
        started: called with the address, without a path.
        ending: called at the signal, before requests that run are waited for; it may end them.

    Returns:
        The exit code.

    """
    config = uvicorn.Config(
        app, host=host, port=port, log_level="warning", timeout_graceful_shutdown=int(grace) + 1, access_log=False
    )
    server = _Server(config, started, ending)
    # uvicorn raises the signal again when it has finished, which would be an error's exit code
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with suppress(KeyboardInterrupt):
        server.run()
    return 0 if server.started else 2
