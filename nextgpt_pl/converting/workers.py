"""Processes that write chunks side by side, and stop between two rows when the conversion is interrupted."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any

from nextgpt_pl.converting.chunks import ChunkWriter, Stopped
from nextgpt_pl.converting.plan import Chunk
from nextgpt_pl.errors import UserError
from nextgpt_pl.utils.parents import start_worker, starting_workers

_REFRESHED = 0.5  # seconds between two moves of the progress bar


@dataclass
class _Worker:
    """What a worker has.

    Attributes:
        writer: writes chunks.
        done: number of rows that all workers have written; shared.
        stop: set to end all workers; shared.

    """

    writer: ChunkWriter
    done: Any
    stop: Any

    def advance(self, rows: int) -> None:
        """Count rows.

        Raises:
            Stopped: the conversion was interrupted.

        """
        if self.stop.is_set():
            raise Stopped
        with self.done.get_lock():
            self.done.value += rows


_worker: _Worker | None = None


def _start(worker: _Worker) -> None:
    global _worker  # noqa: PLW0603 - the pool passes a worker's state to its initializer alone
    start_worker()
    _worker = worker


def _write(chunk: Chunk) -> None:
    assert _worker is not None
    try:
        _worker.writer.write(chunk, _worker.advance)
    except UserError as error:  # its subclasses cannot be passed between processes
        raise UserError(str(error)) from error


def run_all(writer: ChunkWriter, chunks: Sequence[Chunk], workers: int, progress: Callable[[int], object]) -> None:
    """Write chunks.

    Args:
        writer: writes a chunk.
        chunks: the chunks.
        workers: number of processes; 0: this process alone.
        progress: called with the number of further rows that are written.

    Raises:
        UserError: a row cannot be converted, or a worker was killed.
        KeyboardInterrupt: after an interruption, when all workers have stopped.

    """
    if not workers:
        for chunk in chunks:
            writer.write(chunk, progress)
        return
    context = multiprocessing.get_context()
    worker = _Worker(writer, context.Value("q", 0), context.Event())
    pool = ProcessPoolExecutor(min(workers, max(1, len(chunks))), context, _start, (worker,))
    try:
        with starting_workers(context.get_start_method()):
            waiting = {pool.submit(_write, chunk) for chunk in chunks}
        shown = 0
        while waiting:
            done, waiting = wait(waiting, _REFRESHED, FIRST_EXCEPTION)
            written = worker.done.value
            progress(written - shown)
            shown = written
            for future in done:
                future.result()
    except BrokenProcessPool as error:
        raise UserError("a worker was killed, perhaps for lack of memory; the same command goes on") from error
    finally:
        worker.stop.set()
        pool.shutdown(wait=True, cancel_futures=True)
