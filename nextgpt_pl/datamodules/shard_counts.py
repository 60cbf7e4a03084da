"""Number of items of each shard: counted once by reading it, and kept in a file."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tqdm import tqdm

from nextgpt_pl.errors import UserError
from nextgpt_pl.utils.atomic import drop_truncated_line

_READERS = 4  # shards that are fetched and read at a time
_UNREADABLE = "unreadable"  # state of a shard that is read again next time


@dataclass(frozen=True)
class ShardCount:
    """What a shard holds.

    Attributes:
        name: path or URL of the shard.
        state: what changes when it is written; see :meth:`nextgpt_pl.readers.remote.ShardFolder.state`.
        rows: number of usable samples.
        items: number of their items.
        broken: number of broken samples.
        kind: kind of the first item; see :mod:`nextgpt_pl.datamodules.kinds`.
        faults: messages of the first broken samples.
        left_out: number of samples that are not used on purpose, per reason.

    """

    name: str
    state: str
    rows: int
    items: int
    broken: int
    kind: int
    faults: tuple[str, ...] = ()
    left_out: dict[str, int] = field(default_factory=dict)


def counted(
    names: Sequence[str], file: Path, state: Callable[[str], str], count: Callable[[str], ShardCount]
) -> list[ShardCount]:
    """The counts of shards, in their order. One process counts while the others wait; an interrupted count goes on.

    Args:
        names: paths or URLs of the shards.
        file: JSON Lines file of the counts that are known.
        state: state of a shard; a count of another state is made anew.
        count: reads a shard. A shard for which it raises :class:`UserError` has no items, and is read again next time.

    """
    from filelock import FileLock

    file.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(file.with_suffix(".lock")):
        drop_truncated_line(file)
        known = {found.name: found for found in _read(file)}
        missing = [name for name in names if name not in known or known[name].state != state(name)]
        with file.open("a", encoding="utf-8") as log, ThreadPoolExecutor(_READERS) as pool:
            results = pool.map(lambda name: _outcome(count, name), missing)
            for found in tqdm(results, "counting shards", len(missing), unit=" shards", delay=2):
                log.write(json.dumps(asdict(found)) + "\n")
                log.flush()
                known[found.name] = found
    return [known[name] for name in names]


def _outcome(count: Callable[[str], ShardCount], name: str) -> ShardCount:
    try:
        return count(name)
    except UserError as error:
        return ShardCount(name, _UNREADABLE, 0, 0, 1, 0, (str(error),))


def _read(file: Path) -> Iterator[ShardCount]:
    if file.is_file():
        with file.open(encoding="utf-8") as lines:
            for line in lines:
                values = json.loads(line)
                yield ShardCount(**{**values, "faults": tuple(values["faults"])})
