"""Calls in threads, since the event loop must not wait."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from functools import partial
from typing import Any, TypeVar

T = TypeVar("T")


async def in_thread(threads: Executor, function: Callable[..., T], *arguments: Any, **named: Any) -> T:
    """The result of a call in a thread. When the waiting task is cancelled, a call that has not begun never begins."""
    return await asyncio.get_running_loop().run_in_executor(threads, partial(function, *arguments, **named))
