"""Vision, audio and video towers of the transformers library as encoders."""

from __future__ import annotations

import math
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor, nn

from nextgpt_pl.encoders import flexible, preprocessing
from nextgpt_pl.encoders.base import Encoder, known_modalities
from nextgpt_pl.encoders.families import Family
from nextgpt_pl.encoders.grids import Grid, average, averaged_grid, check_grid
from nextgpt_pl.encoders.tower import DType, Tower
from nextgpt_pl.errors import UserError, at_least
from nextgpt_pl.media.reading import array_of, frames_of
from nextgpt_pl.modality import Modality
from nextgpt_pl.samples import Media

Features = Literal["pooled", "patches"]
VERSION = 1  # raise it when features change, also in tower.py or families.py; see nextgpt_pl.features.keys

_FRAMES = 8  # of a video that an image tower sees, by default


class PretrainedEncoder(Encoder):
    """A frozen tower of transformers: SigLIP, CLIP, DINO, Whisper, CLAP, VideoMAE or V-JEPA 2.

    The features of a medium are a grid: time, height and width. Time is that of the frames of a video, or of the
    windows of a sound; the spectrogram of CLAP has frequency for height. Without ``grid``, ``pooled`` gives one feature
    and ``patches`` all of the grid; patches of SigLIP 2 with a variable resolution (NaFlex) need ``grid``, since their
    number depends on the picture. See :data:`~nextgpt_pl.encoders.families.FAMILIES` for the supported model types.

    Args:
        path: hub id or folder of the model, or of its tower alone.
        modalities: media that it reads: image and video for image towers, video for video towers, audio and others
            whose files are sounds for audio towers.
        features: ``pooled``: what the model itself gives for a whole image or sound (class token, attention pooling or
            projection), or else the mean of its patches; ``patches``: the states of its last layer.
        grid: numbers of features to which the grid is averaged: ``[time]``, ``[height, width]`` for each frame, or
            ``[time, height, width]``; the time of an image is 1.
        frames: evenly spaced frames of a video; by default the number that a video tower was trained with, and 8 for
            image towers.
        windows: windows of a sound, each as long as the processor says (30 seconds for Whisper). They follow each other
            from the beginning; silence follows a shorter sound, and windows of a longer sound are spread evenly.
        dtype: dtype of the weights.

    """

    def __init__(
        self,
        path: str,
        modalities: list[str],
        features: Features = "pooled",
        grid: list[int] | None = None,
        frames: int | None = None,
        windows: int = 1,
        dtype: DType = "float32",
    ) -> None:
        super().__init__()
        if not modalities:
            raise UserError(f"encoder.modalities=[]: the media that {path!r} reads are expected")
        self.modalities = known_modalities(modalities, list(Modality))
        if len(set(self.modalities)) < len(modalities):
            raise UserError(f"encoder.modalities={modalities}: a modality is named twice")
        at_least(1, encoder__frames=frames, encoder__windows=windows)
        if grid is not None:
            check_grid(grid, features == "pooled")
        self.tower = Tower(path, dtype)
        self.kind, self.grid, self.given_frames, self.windows = features, grid, frames, windows
        self.network: nn.Module | None = None

    @cached_property
    def family(self) -> Family:
        """The tower's row in the table.

        Raises:
            UserError: the files cannot be read, or the tower does not read a modality.

        """
        family = self.tower.family
        unread = [m.value for m in self.modalities if m not in family.reads]
        if unread:
            raise UserError(
                f"encoder.modalities: {', '.join(unread)}: {self.tower.path!r} reads {', '.join(family.reads)}"
            )
        return family

    @cached_property
    def frames(self) -> int:
        """Frames per video."""
        family, trained = self.family, _FRAMES
        if family.frames:
            trained = int(getattr(self.tower.config, family.frames))
            multiple = int(self.tower.config.tubelet_size)
            given = self.given_frames or trained
            if given % multiple or (given != trained and not family.any_frames):
                expected = f"a multiple of {multiple}" if family.any_frames else str(trained)
                raise UserError(f"encoder.frames={given}: {self.tower.path} reads {expected}")
        return self.given_frames or trained

    @cached_property
    def _unit(self) -> Tensor:
        """What the network reads at once, of a black picture, a black video or silence."""
        blank = self.tower.blank()
        return blank.expand(self.frames, *blank.shape) if self.family.input == "video" else blank

    def _units(self, modality: Modality) -> int:
        """Number of inputs of the network per medium: frames for an image tower, windows of a sound, or 1."""
        if self.family.input == "sound":
            return self.windows
        return self.frames if self.family.input == "image" and modality is Modality.VIDEO else 1

    def _full_grid(self, modality: Modality) -> Grid:
        """Sizes of the grid that ``grid`` averages."""
        units = self._units(modality)
        if self.family.flexible and self.kind == "patches":
            if self.grid is None:
                raise UserError(
                    f"encoder.grid=null: {self.tower.path!r} makes other numbers of patches of each picture; set "
                    "[height, width]"
                )
            return (units, *self._cells)
        time, height, width = self.family.grid(self.tower.config, self._unit.shape)
        return (units, 1, 1) if self.kind == "pooled" else (units * time, height, width)

    @property
    def _cells(self) -> tuple[int, int]:
        """Height and width of ``grid``."""
        grid = self.grid or []
        return (grid[-2], grid[-1]) if len(grid) > 1 else (1, 1)

    def feature_grid(self, modality: Modality) -> Grid:
        """Time, height and width of the features of a medium.

        Raises:
            UserError: ``grid`` has more than the network.

        """
        full = self._full_grid(modality)
        if self.grid is None:
            return (1, 1, 1) if self.kind == "pooled" else full
        return averaged_grid(full, self.grid, modality, timeless=modality is Modality.IMAGE)

    def width(self, _modality: Modality) -> int:
        """Width of the states, or of the pooled output."""
        family = self.family
        return int(getattr(self.tower.config, family.pooled_width if self.kind == "pooled" else "hidden_size"))

    def tokens(self, modality: Modality) -> int:
        """Product of :meth:`feature_grid`."""
        return math.prod(self.feature_grid(modality))

    @property
    def source(self) -> str:
        """The configured path."""
        return self.tower.path

    @property
    def loaded(self) -> bool:
        """Whether the network is loaded."""
        return self.network is not None

    def producer(self, modality: Modality) -> dict[str, Any]:
        """Weights, processor, kind and number of features, frames or windows, and versions of the code."""
        return {
            "class": type(self).__name__,
            **self.tower.description(),
            "features": self.kind,
            "grid": list(self.feature_grid(modality)),
            "inputs": [self._units(modality), *self._unit.shape],
            "version": VERSION,
            "preprocessing": preprocessing.VERSION,
        }

    def load(self) -> None:
        """Read the tower's weights; under the meta device nothing is read.

        Raises:
            UserError: the files do not fit, or the tower does not read a modality.

        """
        for modality in self.modalities:
            self.feature_grid(modality)
        self.network = self.tower.load()

    def blocks(self) -> list[nn.Module]:
        """The layers."""
        return [] if self.network is None else list(self.network.get_submodule(self.family.layers).children())

    def blank(self, modality: Modality) -> Tensor:
        """Black pictures, or silence."""
        return self._unit.expand(1, self._units(modality), *self._unit.shape).clone()

    def prepare(self, media: Media) -> Tensor:
        """Image ``(1, 3, H, W)``, video ``(frames, 3, H, W)`` or ``(1, frames, 3, H, W)``, sound ``(windows, ...)``.

        Raises:
            UserError: the processor does not bring all pictures to one size.

        """
        if self.family.input == "sound":
            return self.tower.windows(*array_of(media), self.windows)
        if media.modality is Modality.VIDEO:
            pictures = torch.from_numpy(frames_of(media, self.frames, self.tower.picture))
        else:
            pictures = torch.from_numpy(self.tower.picture(array_of(media)[0]))[None]
        prepared = pictures[None] if self.family.input == "video" else pictures
        if prepared.shape[1:] != self._unit.shape:
            raise UserError(
                f"encoder.path={self.tower.path!r}: its processor makes {tuple(prepared.shape[-2:])} of a picture and"
                f" {tuple(self._unit.shape[-2:])} of a square; one that crops to a fixed size is expected"
            )
        return prepared

    @torch.no_grad()
    def forward(self, modality: Modality, inputs: Tensor) -> Tensor:
        """``(N, n, ...)`` as from :meth:`prepare` to ``(N, E, C)`` float32."""
        assert self.network is not None
        units = inputs.flatten(0, 1)
        output = self.tower.run(self.network, units)
        states = self._pooled(output, units).unsqueeze(1) if self.kind == "pooled" else self._patches(output, units)
        features = states.float().unflatten(0, (len(inputs), -1)).flatten(1, 2)
        return average(features, self._full_grid(modality), self.feature_grid(modality))

    def _pooled(self, output: Any, units: Tensor) -> Tensor:
        """``(N, C)``."""
        name = self.family.pooled
        pooled: Tensor | None = getattr(output, name) if name else None
        return self._patches(output, units).float().mean(1) if pooled is None else pooled

    def _patches(self, output: Any, units: Tensor) -> Tensor:
        """``(N, E, C)``, without class and register tokens; ``units`` is what the network has read."""
        states: Tensor = output.last_hidden_state
        if self.family.flexible:
            return flexible.cells(states, units, *self._cells)
        if states.ndim == 4:  # (N, C, frequency, time)
            return states.permute(0, 3, 2, 1).flatten(1, 2)
        family = self.family
        registers = int(getattr(self.tower.config, family.registers)) if family.registers else 0
        return states[:, family.skipped + registers :]
