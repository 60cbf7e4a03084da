"""What a stranger's configuration names: importing this module is what must not happen. The tests look for it."""

from torch import Tensor

from nextgpt_pl.projections import MLPOutputProjection

made: list[object] = []


class Planted:
    """Remembers that it was made."""

    def __init__(self, **_: object) -> None:
        made.append(self)


class PlantedProjection(MLPOutputProjection):
    """An output projection of somebody else."""


def planted_function(samples: Tensor) -> Tensor:
    """Of the right signature."""
    made.append(samples)
    return samples
