"""Report a checkpoint that Lightning cannot restore as a user error."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nextgpt_pl.errors import UserError

_FILE = "checkpoint_connector.py"  # of Lightning
_FUNCTIONS = ("restore", "resume")  # beginnings of the names of its functions that read a checkpoint


@contextmanager
def restoring(path: Any) -> Iterator[None]:
    """Convert exceptions that are raised while a checkpoint is restored.

    Args:
        path: path of the checkpoint.

    Raises:
        UserError: the checkpoint lacks a key, or has a value that does not fit the run.

    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        if not any(Path(f.filename).name == _FILE and f.name.lstrip("_").startswith(_FUNCTIONS) for f in frames):
            raise
        reason = (str(error).strip() or "no reason given").splitlines()[0]
        raise UserError(
            f"ckpt_path={str(path)!r}: this run cannot be resumed from it ({type(error).__name__}: {reason}); it is of"
            " another program or version, or was changed"
        ) from error
