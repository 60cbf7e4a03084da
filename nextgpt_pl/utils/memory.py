"""Recognise the errors of allocations that need more memory than there is."""

from __future__ import annotations

import re

# torch raises plain RuntimeErrors on the CPU; the second is of sizes beyond 64 bits
_TEXTS = re.compile(r"can't allocate memory|out of memory|Storage size calculation overflowed", re.IGNORECASE)


def asked_too_much(error: BaseException) -> str | None:
    """What an error says of an allocation that failed, in one line; ``None``: it is another error."""
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and _TEXTS.search(str(error))):
        return (str(error).strip() or "an allocation failed").splitlines()[0]
    return None
