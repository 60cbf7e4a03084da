"""Where the random numbers of initial weights come from: the CPU's generator, whatever device the weights go to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch


def drawn_on_cpu() -> AbstractContextManager[object]:
    """What is built inside is on the CPU, to be moved afterwards; under the meta device it stays there.

    Lightning builds the model under the root device. A GPU has a generator of its own, so weights drawn there would
    differ from those of a run on the CPU, and depend on what else was drawn there before.
    """
    return nullcontext() if torch.get_default_device().type == "meta" else torch.device("cpu")


@contextmanager
def isolated(number: int) -> Iterator[None]:
    """Random numbers of their own: what is initialised afterwards does not depend on whether a part was loaded.

    Args:
        number: of the part; each has its own seed, from that of the run.

    """
    device = torch.get_default_device()
    seed = torch.initial_seed() + number
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed % 2**63)
        yield
