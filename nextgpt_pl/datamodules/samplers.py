"""Which items, in which order: seeded, mixing modalities, split over processes, resumable in mid-epoch."""

from __future__ import annotations

import math
import multiprocessing
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader, Sampler

from nextgpt_pl.errors import UserError
from nextgpt_pl.utils.parents import starting_workers


class MixedSampler(Sampler[list[int]]):
    """Batches of item numbers, freshly shuffled every epoch.

    Without weights an epoch shows each item once. With weights an epoch has as many items, drawn with replacement
    inside each group, the groups in the given proportion.

    Args:
        groups: of each item: its modality, or its data set.
        batch_size: per process.
        weights: relative share per group; a group without one has none.
        seed: of the order.
        rank: this process.
        world_size: all processes; they get batches of disjoint items, equally many.

    """

    def __init__(
        self,
        groups: Sequence[Hashable],
        batch_size: int,
        weights: Mapping[Any, float] | None = None,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.groups, self.batch_size, self.weights = groups, batch_size, weights
        self.seed, self.rank, self.world_size = seed, rank, world_size
        self.epoch = 0
        self.start = 0  # batches of this epoch that were used before a resume

    def __len__(self) -> int:
        per_process = math.ceil(len(self.groups) / self.world_size)
        return math.ceil(per_process / self.batch_size)

    def set_epoch(self, epoch: int) -> None:
        """Lightning calls this before each epoch."""
        self.epoch = epoch

    def _order(self) -> list[int]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        count = len(self.groups)
        if self.weights is None:
            return torch.randperm(count, generator=generator).tolist()
        sizes = Counter(self.groups)
        per_item = torch.tensor([self.weights.get(group, 0.0) / sizes[group] for group in self.groups])
        return torch.multinomial(per_item.double(), count, replacement=True, generator=generator).tolist()

    def __iter__(self) -> Iterator[list[int]]:
        order = self._order()
        # every process must take part in every step: the last items are filled up from the front
        order += order[: -len(order) % self.world_size]
        mine = order[self.rank :: self.world_size]
        batches = [mine[i : i + self.batch_size] for i in range(0, len(mine), self.batch_size)]
        first, self.start = self.start, 0
        yield from batches[first:]


class RowLoader(DataLoader):
    """A DataLoader that re-raises the workers' :class:`UserError` with its own message, without the traceback.

    Its workers are started under :func:`~nextgpt_pl.utils.parents.starting_workers`.
    """

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        with starting_workers((self.multiprocessing_context or multiprocessing).get_start_method()):
            batches = super().__iter__()
        try:
            yield from batches
        except UserError as error:
            # torch re-raises a worker's error with the worker's traceback as its message
            raise UserError(str(error).rsplit(f"{UserError.__name__}: ", 1)[-1].strip()) from error


class ResumableLoader(RowLoader):
    """A DataLoader that counts the batches of the epoch and continues behind the last one after a resume.

    Lightning stores and restores the state of loaders that have ``state_dict``. A batch counts when it is returned;
    prefetched batches are made again. The state does not depend on the number of workers, which may change at a resume;
    torchdata's ``StatefulDataLoader`` requires the same number.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._used = 0
        self._resumed = 0

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        self._used, self._resumed = self._resumed, 0
        if isinstance(self.batch_sampler, MixedSampler):
            self.batch_sampler.start = self._used
        for batch in super().__iter__():
            self._used += 1
            yield batch
        self._used = 0

    def state_dict(self) -> dict[str, int]:
        """Position within the epoch, and the epoch."""
        epoch = self.batch_sampler.epoch if isinstance(self.batch_sampler, MixedSampler) else 0
        return {"batches": self._used, "epoch": epoch}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """The next iteration starts there."""
        self._resumed = state["batches"]
        if isinstance(self.batch_sampler, MixedSampler):
            self.batch_sampler.epoch = state["epoch"]
