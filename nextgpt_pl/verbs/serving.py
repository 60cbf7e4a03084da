"""``serve``: an OpenAI-compatible server of a run."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path

from nextgpt_pl.errors import UserError
from nextgpt_pl.serving.options import ServerOptions
from nextgpt_pl.utils.paths import CHAT_RUN
from nextgpt_pl.verbs.command import call

TOKEN_VARIABLE = "NEXTGPT_TOKEN"


def serve(
    options: ServerOptions,
    run: Path = CHAT_RUN,
    host: str = "127.0.0.1",
    port: int = 8000,
    token_file: Path | None = None,
    trust: Sequence[str] = (),
) -> int:
    """Serve a trained run by OpenAI's protocol.

    The environment variable NEXTGPT_TOKEN, or the file of --token_file, holds the token that requests need.

    Args:
        options: limits.
        run: folder of the run; by default that of the package.
        host: address to listen on; 0.0.0.0 is reachable from other machines.
        port: port to listen on; 0 is any free one.
        token_file: file with the bearer token that requests need.
        trust: dotted names of classes outside this package that the run may name, such as my_package.MyEncoder.

    """
    try:
        from nextgpt_pl.serving.app import application
        from nextgpt_pl.serving.run import check_address
        from nextgpt_pl.serving.run import run as run_server
    except ImportError as error:
        raise UserError(f"serve: pip install 'nextgpt-pl[serve]' ({error})") from error
    token = _token(token_file)
    check_address(host, port)
    if token is None and host not in ("127.0.0.1", "localhost", "::1"):
        print(f"note: {host} may be reachable from other machines, and requests need no token ({TOKEN_VARIABLE})")
    from nextgpt_pl.pipeline import AnyToAny
    from nextgpt_pl.readers.chat import MediaAccess

    access = MediaAccess(folders=(), max_bytes=options.max_medium)
    model = AnyToAny.from_run(run, trust=trust, access=access)
    app = application(model, Path(run).resolve().name, options, token)
    return run_server(app, host, port, options.timeout, lambda url: print(f"serving {run} at {url}/v1", flush=True))


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
