"""Seeded samplers and loaders that mix modalities, split items over ranks, and resume within an epoch."""

from __future__ import annotations

import math
import multiprocessing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Sampler

from nextgpt_pl.datamodules.kinds import Groups
from nextgpt_pl.datamodules.stream_order import Stream, placed
from nextgpt_pl.errors import UserError
from nextgpt_pl.utils.collection import frozen_objects
from nextgpt_pl.utils.parents import starting_workers

_BLOCK = 4096  # numbers that are converted at a time


class MixedSampler(Sampler[list[int]]):
    """Batches of item indices, shuffled anew in each epoch.

    Without weights, an epoch contains each item once. With weights, it has the same number of items, drawn with
    replacement; each group's expected share is proportional to its weight.

    Args:
        groups: group of each item, such as its modality or data set.
        batch_size: items per batch and process.
        weights: relative share per group; groups that are missing are never drawn.
        seed: seed of the order.
        rank: index of this process.
        world_size: number of processes. They get equal numbers of items; without weights these are disjoint, except for
            at most ``world_size - 1`` repeated ones.
        streams: runs of items that are in shards. They occur as often as other items, but in an order that keeps items
            of one shard near one another, and each rank reads shards of its own.

    """

    def __init__(
        self,
        groups: Groups,
        batch_size: int,
        weights: Mapping[Any, float] | None = None,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        streams: Sequence[Stream] = (),
    ) -> None:
        self.groups, self.batch_size, self.weights = groups, batch_size, weights
        self.seed, self.rank, self.world_size, self.streams = seed, rank, world_size, list(streams)
        self.epoch = 0
        self.start = 0  # number of batches of this epoch to skip after a resume

    def __len__(self) -> int:
        per_process = math.ceil(len(self.groups) / self.world_size)
        return math.ceil(per_process / self.batch_size)

    def set_epoch(self, epoch: int) -> None:
        """Set the number of the epoch, which its order depends on."""
        self.epoch = epoch

    def _order(self) -> np.ndarray:
        """Positions of the epoch's items, ``(n,)`` int64."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        count = len(self.groups)
        if self.weights is None:
            return torch.randperm(count, generator=generator).numpy()
        sizes = self.groups.sizes()
        per_group = torch.tensor([self.weights.get(name, 0.0) if name in sizes else 0.0 for name in self.groups.names])
        drawn = torch.multinomial(per_group.double(), count, replacement=True, generator=generator).numpy()
        share = torch.rand(count, generator=generator, dtype=torch.float64).numpy()
        order = np.empty(count, np.int64)
        for code in np.unique(drawn).tolist():
            members, places = np.flatnonzero(self.groups.codes == code), np.flatnonzero(drawn == code)
            order[places] = members[(share[places] * len(members)).astype(np.int64)]
        return order

    def _own_order(self) -> np.ndarray:
        """Positions of this process's items in the epoch."""
        order = placed(self._order(), self.streams, self.world_size, (self.seed, self.epoch))
        # all ranks must take the same number of steps, so the first items fill up the last ones
        return np.concatenate([order, order[: -len(order) % self.world_size]])[self.rank :: self.world_size].copy()

    def __iter__(self) -> Iterator[list[int]]:
        mine = self._own_order()
        first, self.start = self.start, 0
        for i in range(first * self.batch_size, len(mine), self.batch_size):
            yield mine[i : i + self.batch_size].tolist()


class InOrder(Sampler[int]):
    """Item numbers in a given order.

    Args:
        order: the numbers, ``(n,)`` integers.

    """

    def __init__(self, order: np.ndarray) -> None:
        self.order = order

    def __len__(self) -> int:
        return len(self.order)

    def __iter__(self) -> Iterator[int]:
        for start in range(0, len(self.order), _BLOCK):
            yield from self.order[start : start + _BLOCK].tolist()


class RowLoader(DataLoader):
    """A DataLoader that re-raises the workers' :class:`UserError` with its own message, without the traceback.

    Its workers are started under :func:`~nextgpt_pl.utils.parents.starting_workers`. The garbage collector of a forked
    worker does not look at the objects of its parent, so their memory stays shared.
    """

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        method = (self.multiprocessing_context or multiprocessing).get_start_method()
        with frozen_objects(), starting_workers(method):
            batches = super().__iter__()
        try:
            yield from batches
        except UserError as error:
            # torch re-raises a worker's error with the worker's traceback as its message
            raise UserError(str(error).rsplit(f"{UserError.__name__}: ", 1)[-1].strip()) from error


class ResumableLoader(RowLoader):
    """A DataLoader that counts epochs and their batches, and continues after the last batch on resume.

    Lightning saves and restores the state of loaders with a ``state_dict``. A batch counts when it is returned, so
    prefetched batches are loaded again. The number of workers may change on resume; torchdata's ``StatefulDataLoader``
    requires the same number. Epochs are counted here, since Lightning counts the last one twice if it resumes at its
    end.

    Args:
        args: arguments of the DataLoader.
        limit: batches of an epoch that are used, as ``limit_train_batches`` of Lightning: a number, or a share.
        kwargs: arguments of the DataLoader.

    """

    def __init__(self, *args: Any, limit: float = 1.0, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        batches = len(self)
        self._last = min(limit, batches) if isinstance(limit, int) else int(batches * limit)
        self._epoch = self._used = 0
        self._begun = False  # whether an iteration has begun at the position

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        if self._begun:
            self._epoch, self._used = self._epoch + 1, 0
        self._begun = True
        if isinstance(self.batch_sampler, MixedSampler):
            self.batch_sampler.set_epoch(self._epoch)
            self.batch_sampler.start = self._used
        for batch in super().__iter__():
            self._used += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        """Position within the epoch, and the epoch; at the end of an epoch, those of the next one."""
        if self._used >= self._last:
            return {"batches": 0, "epoch": self._epoch + 1}
        return {"batches": self._used, "epoch": self._epoch}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Set the position at which the next iteration starts; until then it is also the current one.

        Raises:
            UserError: it is no position.

        """
        batches, epoch = state.get("batches"), state.get("epoch")
        if not isinstance(batches, int) or not isinstance(epoch, int) or batches < 0 or epoch < 0:
            raise UserError(f"the position in the data is damaged: batches={batches!r:.80}, epoch={epoch!r:.80}")
        ended = batches >= self._last
        self._epoch, self._used, self._begun = (epoch + 1, 0, False) if ended else (epoch, batches, False)
