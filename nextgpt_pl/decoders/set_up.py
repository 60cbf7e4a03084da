"""What is changed of a pipeline once it is read: its scheduler, compilation, and where its networks are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

from nextgpt_pl.decoders.arguments import check, declared
from nextgpt_pl.decoders.files import diffusers_class
from nextgpt_pl.errors import UserError

Offload = Literal["none", "model", "sequential"]

# names under which pipelines keep the network that denoises
_DENOISERS = ("unet", "transformer")


def denoiser_name(pipeline: Any) -> str:
    """Under which name a pipeline keeps the network that denoises."""
    return next(name for name in _DENOISERS if name in pipeline.components)


@dataclass(frozen=True)
class SetUp:
    """See :class:`~nextgpt_pl.decoders.diffusion.DiffusionDecoder` for what each option means.

    Raises:
        UserError: diffusers has no such scheduler, or the scheduler does not take one of the arguments.

    """

    scheduler: str | None = None
    scheduler_args: Mapping[str, Any] = field(default_factory=dict)
    offload: Offload = "none"
    compile: bool = False

    def __post_init__(self) -> None:
        if self.scheduler_args and not self.scheduler:
            raise UserError("decoder scheduler_args are given, but no scheduler: name its class")
        if self.scheduler is not None:
            known = declared(self._scheduler_class().__init__)
            check(self.scheduler_args, known, "decoder scheduler_args", self.scheduler)

    def _scheduler_class(self) -> Any:
        return diffusers_class(str(self.scheduler), "scheduler", "SchedulerMixin")

    def apply(self, pipeline: Any, device: torch.device) -> None:
        """Set the scheduler, compilation, sliced decoding and device of a pipeline."""
        slice_by_slice = getattr(getattr(pipeline, "vae", None), "enable_slicing", None)
        if slice_by_slice is not None:
            # decode one image or frame at a time: a video of 24 frames at 320x576 needs 0.3 GiB instead of 6.3
            slice_by_slice()
        if self.scheduler:
            scheduler_class = self._scheduler_class()
            pipeline.scheduler = scheduler_class.from_config(pipeline.scheduler.config, **self.scheduler_args)
        if self.compile:
            name = denoiser_name(pipeline)
            setattr(pipeline, name, torch.compile(getattr(pipeline, name)))
        self.place(pipeline, device)

    def place(self, pipeline: Any, device: torch.device) -> None:
        """Move the networks, or have them moved when they run; lay them out as the device likes it."""
        if device.type == "cpu" and type(getattr(pipeline, "vae", None)).__name__ == "AutoencoderKL":
            # a quarter to a half less time for its convolutions; those of the denoisers take as long as before
            pipeline.vae.to(memory_format=torch.channels_last)
        # on the CPU there is nowhere to move from
        if self.offload == "none" or device.type == "cpu":
            pipeline.to(device)
        elif self.offload == "model":
            pipeline.enable_model_cpu_offload(device=device)
        else:
            pipeline.enable_sequential_cpu_offload(device=device)
