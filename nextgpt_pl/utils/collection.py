"""Work that makes many objects without cycles, and the garbage collector."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def frozen_objects() -> Iterator[None]:
    """Within the context, the garbage collector does not look at the objects that exist at its begin.

    Full collections are frequent while objects are made, and each would look at the million objects of torch and other
    modules. Objects that the context makes are collected as ever.
    """
    if gc.get_freeze_count():  # the caller's own, which must not be thawed
        yield
        return
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
