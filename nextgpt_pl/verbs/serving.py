"""``serve``: an OpenAI-compatible server of a run."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path

from nextgpt_pl.errors import UserError
from nextgpt_pl.verbs.command import call

TOKEN_VARIABLE = "NEXTGPT_TOKEN"
INSTALL = "pip install -e '.[serve]'"


def serve(
    run: Path,
    host: str = "127.0.0.1",
    port: int = 8000,
    queue: int = 64,
    batch_size: int = 8,
    timeout: float = 300.0,
    max_body_mb: float = 32.0,
    max_media: int = 16,
    max_media_mb: float = 24.0,
    max_tokens: int = 1024,
    token_file: Path | None = None,
    trust: Sequence[str] = (),
) -> int:
    """Serve a trained run by OpenAI's protocol.

    The environment variable NEXTGPT_TOKEN, or the file of --token_file, holds the token that requests need.

    Args:
        run: folder of the run.
        host: address to listen on; 0.0.0.0 is reachable from other machines.
        port: port to listen on; 0 is any free one.
        queue: highest number of requests that wait or are answered; further ones get status 429.
        batch_size: highest number of requests that are answered together.
        timeout: seconds until a request is given up.
        max_body_mb: maximum size of a request in MB.
        max_media: maximum number of media in a request.
        max_media_mb: maximum size of one medium in MB.
        max_tokens: maximum number of tokens of a reply.
        token_file: file with the bearer token that requests need.
        trust: dotted names of classes outside this package that the run may name, such as my_package.MyEncoder.

    """
    try:
        from nextgpt_pl.serving.app import application
        from nextgpt_pl.serving.run import run as run_server
    except ImportError as error:
        raise UserError(f"serve: {INSTALL} ({error})") from error
    from nextgpt_pl.serving.options import ServerOptions

    options = ServerOptions(queue, batch_size, timeout, max_body_mb, max_media, max_tokens)
    token = _token(token_file)
    if token is None and host not in ("127.0.0.1", "localhost", "::1"):
        print(f"note: {host} may be reachable from other machines, and requests need no token ({TOKEN_VARIABLE})")
    from nextgpt_pl.pipeline import AnyToAny
    from nextgpt_pl.readers.chat import MediaAccess

    access = MediaAccess(folders=(), max_bytes=int(max_media_mb * 1e6))
    model = AnyToAny.from_run(run, trust=trust, access=access)
    app = application(model, Path(run).resolve().name, options, token)
    return run_server(app, host, port, timeout, lambda url: print(f"serving {run} at {url}", flush=True))


def _token(file: Path | None) -> str | None:
    """The token that requests need."""
    if file is None:
        token = os.environ.get(TOKEN_VARIABLE, "").strip()
        if not token:
            return None
    else:
        try:
            token, mode = file.read_text(encoding="ascii").strip(), file.stat().st_mode
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "not a line of ASCII"
            raise UserError(f"token_file={file}: {reason}") from error
        if mode & stat.S_IROTH:
            raise UserError(f"token_file={file}: all users can read it; chmod 600 {file}")
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise UserError(f"{f'token_file={file}' if file else TOKEN_VARIABLE}: one token without spaces is expected")
    return token


def main(argv: Sequence[str]) -> int:
    """Parse and run ``serve``."""
    return call(serve, argv)
