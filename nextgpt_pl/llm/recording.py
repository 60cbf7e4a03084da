"""Record the hidden states that a model of the transformers library computes while it generates."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor


@contextmanager
def recorded(base: Any, count: int) -> Iterator[list[Tensor]]:
    """Within this context, record the final hidden states of the last positions of each forward pass.

    Only passes of the calling thread are recorded. Recording causes no host synchronisation.

    Args:
        base: transformer of a model of the transformers library, without its head.
        count: number of positions; the states of a pass are ``(B, count, H)``.

    """
    states: list[Tensor] = []
    thread = threading.get_ident()

    def keep(_module: Any, _args: Any, output: Any) -> None:
        if threading.get_ident() == thread:
            states.append(output.last_hidden_state[:, -count:])

    hook = base.register_forward_hook(keep)
    try:
        yield states
    finally:
        hook.remove()
