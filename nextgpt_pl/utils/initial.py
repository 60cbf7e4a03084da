"""Random initialisation on the CPU's generator, independent of the device that the weights are moved to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch


def drawn_on_cpu() -> AbstractContextManager[object]:
    """A context that builds modules on the CPU, to be moved afterwards; inside ``torch.device("meta")`` it is a no-op.

    Lightning builds the model under the root device. A GPU has its own generator, so weights drawn on it would differ
    from those of a run on the CPU.
    """
    return nullcontext() if torch.get_default_device().type == "meta" else torch.device("cpu")


@contextmanager
def isolated(number: int) -> Iterator[None]:
    """Isolate a part's random numbers, so that later initialisation does not depend on whether the part was built.

    Args:
        number: number of the part; its seed is that of the run plus this number.

    """
    device = torch.get_default_device()
    seed = torch.initial_seed() + number
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed % 2**63)
        yield
