"""Guidance in a part of the sampling steps only (Kynkäänniemi et al. 2024, arXiv:2404.07724).

Pipelines run the denoiser on a doubled batch, the negative half before the conditional one. Outside of the interval,
only the conditional half is computed and used for both; guidance has no effect and the step costs half as much.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from nextgpt_pl.errors import UserError

Interval = tuple[float, float]
#: name of the sampling argument
KEY = "guidance_interval"


def pop_interval(sampling: dict[str, Any]) -> Interval | None:
    """The ``guidance_interval`` of sampling arguments, removed from them; ``None``: guidance in all steps.

    Raises:
        UserError: the value is not two ascending fractions in [0, 1].

    """
    interval = sampling.pop(KEY, None)
    if interval is None:
        return None
    try:
        first, last = (float(share) for share in interval)
    except (TypeError, ValueError):
        first = last = 0.0
    if not 0 <= first < last <= 1:
        raise UserError(
            f"decoder guidance_interval={interval!r}: expected two fractions of the steps, 0 <= first < last <= 1"
        )
    if sampling.get("guidance_scale", 2.0) <= 1:  # guidance is off
        return None
    return first, last


@contextmanager
def limited(pipeline: Any, denoiser: nn.Module, count: int, interval: Interval | None) -> Iterator[None]:
    """Within this context, a call of ``pipeline`` for ``count`` media is guided only in ``interval``.

    Args:
        pipeline: pipeline of diffusers; its scheduler has the number of steps.
        denoiser: denoiser of the pipeline.
        count: number of media in the call.
        interval: first fraction of the steps (inclusive) and last one (exclusive); ``None`` or ``(0, 1)``: all steps.

    Raises:
        UserError: the pipeline does not use a doubled batch for guidance.

    """
    if interval is None or interval == (0.0, 1.0):
        yield
        return
    calls = 0
    halved = False

    def before(_module: nn.Module, args: Any, kwargs: Any) -> Any:
        nonlocal calls, halved
        _check_doubled([*args, *kwargs.values()], count, pipeline)
        fraction = calls / len(pipeline.scheduler.timesteps)
        calls += 1
        halved = not interval[0] <= fraction < interval[1]
        if not halved:
            return None
        return _each(args, _conditional), _each(kwargs, _conditional)

    def _conditional(tensor: Tensor) -> Tensor:
        return tensor[count:] if tensor.ndim and len(tensor) == 2 * count else tensor

    def after(_module: nn.Module, _args: Any, _kwargs: Any, output: Any) -> Any:
        return _each(output, lambda tensor: torch.cat([tensor, tensor])) if halved else None

    hooks = [
        denoiser.register_forward_pre_hook(before, with_kwargs=True),
        denoiser.register_forward_hook(after, with_kwargs=True),
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _check_doubled(values: list[Any], count: int, pipeline: Any) -> None:
    noisy = next(value for value in values if isinstance(value, Tensor))
    if len(noisy) != 2 * count:
        raise UserError(
            f"decoder guidance_interval: {type(pipeline).__name__} gives its denoiser a batch of {len(noisy)} for "
            f"{count} media, not one doubled batch for guidance; remove the key"
        )


def _each(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Apply ``change`` to every tensor in nested tuples and dictionaries; diffusers' outputs are dictionaries."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, dict):
        return type(value)(**{name: _each(item, change) for name, item in value.items()})
    if isinstance(value, (tuple, list)):
        return type(value)(_each(item, change) for item in value)
    return value
