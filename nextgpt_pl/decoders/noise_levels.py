"""Random noise levels of the denoising loss, distributed as in the training of the scheduler's model.

A noisy latent is ``alpha * latents + sigma * noise``. Shapes: N media.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from nextgpt_pl.errors import UserError
from nextgpt_pl.losses import DenoisingTarget

_KINDS: dict[str, DenoisingTarget] = {
    "epsilon": "epsilon",
    "v_prediction": "v",
    "sample": "sample",
    "flow_prediction": "flow",
}
_SMALLEST_ANGLE = 1e-4  # as a share of a right angle; the logarithm of a noise level of 0 is not finite


def target_kind(scheduler: Any) -> DenoisingTarget:
    """The prediction type of a scheduler's model.

    Raises:
        UserError: the prediction type is unknown.

    """
    if "FlowMatch" in type(scheduler).__name__:
        return "flow"
    kind = scheduler.config.get("prediction_type", "epsilon")
    if kind not in _KINDS:
        raise UserError(f"the scheduler's prediction_type={kind!r}: known are {', '.join(_KINDS)}")
    return _KINDS[kind]


def noise_levels(
    scheduler: Any, count: int, generator: torch.Generator, tokens: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    """Random timesteps ``(N,)`` with their factors of the signal (alpha) and of the noise (sigma), on the CPU.

    Models with flow matching draw sigma from a logit-normal distribution, shifted as the scheduler shifts it; options
    that only space the steps of sampling, such as ``shift_terminal``, have no effect. Models
    with continuous noise levels (Stable Audio) draw the angle whose cosine is alpha uniformly. All others draw a
    training timestep uniformly.

    Args:
        scheduler: scheduler of the pipeline.
        count: N.
        generator: CPU generator.
        tokens: number of tokens of one medium in the denoiser; a scheduler with ``use_dynamic_shifting`` needs it.

    Raises:
        UserError: the scheduler is not supported.

    """
    if target_kind(scheduler) == "flow":
        return flow_levels(scheduler, torch.randn(count, generator=generator).sigmoid(), tokens)
    if hasattr(scheduler, "precondition_noise"):
        return angular_levels(scheduler, torch.rand(count, generator=generator))
    if not hasattr(scheduler, "alphas_cumprod"):
        raise UserError(f"model.denoising_weights: the noise levels of {type(scheduler).__name__} are not known")
    steps = int(scheduler.config.num_train_timesteps)
    return discrete_levels(scheduler, torch.randint(0, steps, (count,), generator=generator))


def discrete_levels(scheduler: Any, timesteps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Levels of training timesteps ``(N,)``, which are returned as they are."""
    alphas_cumprod = scheduler.alphas_cumprod.cpu().float()[timesteps]
    return timesteps, alphas_cumprod.sqrt(), (1 - alphas_cumprod).sqrt()


def flow_levels(scheduler: Any, uniform: Tensor, tokens: int) -> tuple[Tensor, Tensor, Tensor]:
    """Levels of flow matching; ``uniform`` is sigma ``(N,)`` before the scheduler's shift."""
    shift = _shift(scheduler.config, tokens)
    sigma = shift * uniform / (1 + (shift - 1) * uniform)
    timesteps = sigma * int(scheduler.config.num_train_timesteps)
    # other schedulers than those of flow matching truncate their timesteps
    return timesteps if "FlowMatch" in type(scheduler).__name__ else timesteps.long(), 1 - sigma, sigma


def _shift(config: Any, tokens: int) -> float:
    """Factor of the ratio of sigma to alpha, which moves noise levels of large media up."""
    if not config.get("use_dynamic_shifting"):
        return float(config.get("shift") or config.get("flow_shift") or 1.0)
    low, high = config.get("base_image_seq_len", 256), config.get("max_image_seq_len", 4096)
    start, end = config.get("base_shift", 0.5), config.get("max_shift", 1.15)
    shift = float(start + (end - start) * (tokens - low) / (high - low))
    return shift if config.get("time_shift_type") == "linear" else math.exp(shift)


def angular_levels(scheduler: Any, uniform: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Levels of a model whose inputs the scheduler normalises; ``uniform (N,)`` is a share of a right angle.

    Raises:
        UserError: the model predicts no velocity of latents with variance 1.

    """
    config = scheduler.config
    if config.prediction_type != "v_prediction" or config.sigma_data != 1:
        raise UserError(
            f"model.denoising_weights: {type(scheduler).__name__} with prediction_type={config.prediction_type!r} and "
            f"sigma_data={config.sigma_data} is not supported; expected 'v_prediction' and 1.0"
        )
    angle = uniform.clamp(_SMALLEST_ANGLE, 1 - _SMALLEST_ANGLE) * (math.pi / 2)
    return scheduler.precondition_noise(angle.tan()), angle.cos(), angle.sin()
