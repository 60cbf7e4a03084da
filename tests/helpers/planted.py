"""A module that an untrusted configuration names; tests check that it is not imported."""

from torch import Tensor

from nextgpt_pl.projections import MLPOutputProjection

made: list[object] = []


class Planted:
    """Records that it was instantiated."""

    def __init__(self, **_: object) -> None:
        made.append(self)


class PlantedProjection(MLPOutputProjection):
    """An output projection outside the package."""


def planted_function(samples: Tensor) -> Tensor:
    """A function with the right signature."""
    made.append(samples)
    return samples
