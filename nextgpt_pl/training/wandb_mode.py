"""The mode of W&B (``WANDB_MODE``), and a check that runs can log in this mode."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from nextgpt_pl.errors import UserError

# modes of W&B; it still accepts the two last ones, earlier names of "offline" and "online"
_MODES = ("online", "offline", "disabled", "shared", "dryrun", "run")
_WITHOUT_SERVER = ("offline", "disabled", "dryrun")
_ADVICE = "WANDB_MODE=offline logs into the run's folder, WANDB_MODE=disabled not at all"


def wandb_mode() -> str:
    """The value of ``WANDB_MODE``, which is set: offline by default, online if a sweep's agent started the process.

    Raises:
        UserError: W&B has no such mode.

    """
    # an agent's run reports to the server that chose its parameters
    default = "online" if os.environ.get("WANDB_SWEEP_ID") else "offline"
    mode = os.environ.get("WANDB_MODE") or default
    if mode not in _MODES:
        raise UserError(f"WANDB_MODE={mode!r}: expected one of {', '.join(_MODES[:4])}")
    os.environ["WANDB_MODE"] = mode
    if mode in _WITHOUT_SERVER:
        os.environ.setdefault("WANDB_SILENT", "true")
    return mode


def check_wandb() -> None:
    """Check that W&B can log in its mode; sends nothing.

    Raises:
        UserError: W&B has no such mode, is not installed, or has no valid API key for its server.

    """
    mode = wandb_mode()
    if mode == "disabled":
        return
    if importlib.util.find_spec("wandb") is None:
        raise UserError(f"W&B is not installed: pip install wandb; {_ADVICE.split(', ')[1]}")
    if mode not in _WITHOUT_SERVER:
        import wandb

        with wandb_errors():
            wandb.login(verify=False)  # in a terminal it asks for a key


@contextmanager
def wandb_errors() -> Iterator[None]:
    """Convert errors of W&B, such as a server that cannot be reached, to a :class:`UserError`."""
    try:
        yield
    except Exception as error:
        wandb = sys.modules.get("wandb")
        if wandb is None or not isinstance(error, wandb.Error):
            raise
        raise UserError(f"W&B: {(str(error).splitlines() or [type(error).__name__])[0]}; {_ADVICE}") from error
