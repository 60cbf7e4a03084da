"""Files of a tower of the transformers library: its configuration, its processor and its weights."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import cached_property
from operator import attrgetter
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from nextgpt_pl import published
from nextgpt_pl.encoders.families import FAMILIES, Family
from nextgpt_pl.errors import UserError, nearest
from nextgpt_pl.features.keys import folder_sha256
from nextgpt_pl.utils.paths import resolve
from nextgpt_pl.utils.quiet import quiet_loading

DType = Literal["float32", "bfloat16", "float16"]


@dataclass
class Tower:
    """The files of a folder or a hub repository; nothing is read before it is needed.

    Args:
        path: hub id or folder.
        dtype: dtype of the weights.

    """

    path: str
    dtype: DType = "float32"

    @cached_property
    def _whole(self) -> Any:
        from transformers import AutoConfig

        try:
            return AutoConfig.from_pretrained(resolve(self.path), trust_remote_code=False)
        except (OSError, ValueError) as error:
            known = published.read(self.path, "config.json")
            if known is not None:  # without network: the sizes, since there are no weights either
                return AutoConfig.for_model(**known)
            raise UserError(f"encoder.path={self.path!r}: {str(error).splitlines()[0]}") from error

    @property
    def model_type(self) -> str:
        """Of its configuration."""
        return str(self._whole.model_type)

    @cached_property
    def family(self) -> Family:
        """The row of the table.

        Raises:
            UserError: the files cannot be read, or the table has no such model type.

        """
        kind = self.model_type
        if kind not in FAMILIES:
            raise UserError(f"encoder.path={self.path!r}: no encoder for model type {kind!r}{nearest(kind, FAMILIES)}")
        return FAMILIES[kind]

    @cached_property
    def config(self) -> Any:
        """The tower's configuration."""
        if not self.family.part:
            return self._whole
        config = getattr(self._whole, self.family.part)
        if hasattr(self._whole, "projection_dim"):
            config.projection_dim = self._whole.projection_dim
        return config

    @cached_property
    def processor(self) -> Any:
        """The processor of images, videos or sounds.

        Raises:
            UserError: there is none.

        """
        import transformers

        reader = getattr(transformers, self.family.processor)
        try:
            return reader.from_pretrained(resolve(self.path), trust_remote_code=False)
        except (OSError, ValueError) as error:
            known = published.read(self.path, "preprocessor_config.json")
            if known is not None:
                return getattr(transformers, known.pop("class"))(**known)
            raise UserError(
                f"encoder.path={self.path!r}: no processor that {self.family.processor} reads, such as"
                f" preprocessor_config.json ({str(error).splitlines()[0]})"
            ) from error

    def description(self) -> dict[str, str]:
        """What identifies weights and processor, for the key of features."""
        folder = Path(resolve(self.path))
        commit = getattr(self._whole, "_commit_hash", None)
        weights = folder_sha256(folder) if folder.is_dir() else f"{self.path}@{commit}" if commit else self.path
        return {"weights": weights, "processor": type(self.processor).__name__, "dtype": self.dtype}

    def load(self) -> nn.Module:
        """The network, frozen; under the meta device nothing is read.

        Raises:
            UserError: the files cannot be read, or have no weights for a part of the tower.

        """
        import transformers

        family, config, dtype = self.family, copy.deepcopy(self.config), getattr(torch, self.dtype)
        kind: Any = attrgetter(family.network)(transformers)
        if torch.get_default_device().type == "meta":
            network = kind._from_config(config, dtype=dtype)
        else:
            network = self._read(kind, config, dtype)
        tower: nn.Module = attrgetter(family.inside)(network) if family.inside else network
        return tower.requires_grad_(False).eval()

    def _read(self, kind: Any, config: Any, dtype: torch.dtype) -> Any:
        prefixes = {f"^{prefix}".replace(".", r"\."): "" for prefix in self.family.prefixes}
        options = {"key_mapping": prefixes} if prefixes else {}
        try:
            with quiet_loading():
                network, report = kind.from_pretrained(
                    resolve(self.path), config=config, dtype=dtype, output_loading_info=True, **options
                )
        except (OSError, ValueError, RuntimeError) as error:
            raise UserError(f"encoder.path={self.path!r}: {str(error).splitlines()[0]}") from error
        # transformers would draw missing weights at random
        if missing := sorted(report["missing_keys"]):
            raise UserError(f"encoder.path={self.path!r}: no weights for {', '.join(missing[:5])}")
        return network

    def picture(self, frame: np.ndarray) -> np.ndarray:
        """An image, or a frame of a video, ``(H, W, 3)`` uint8 to ``(3, height, width)`` float32."""
        options = {"return_tensors": "pt", "input_data_format": "channels_last"}
        if self.family.input == "video":
            pixels = self.processor(videos=[frame[None]], **options)[self._input][0, 0]
        else:
            pixels = self.processor(images=frame, **options)[self._input][0]
        return np.asarray(pixels, np.float32)

    def window(self, samples: np.ndarray) -> Tensor:
        """A window of a sound, at most as long as the processor reads, to its spectrogram."""
        rate = self.processor.sampling_rate
        spectrogram: Tensor = self.processor(samples, sampling_rate=rate, return_tensors="pt")[self._input][0]
        return spectrogram.float()

    @property
    def _input(self) -> str:
        name: str = self.processor.model_input_names[0]
        return name

    def run(self, network: nn.Module, inputs: Tensor) -> Any:
        """The network's output for ``(N, ...)``."""
        like = next(network.parameters())
        flags = {
            name: torch.zeros(len(inputs), 1, dtype=torch.bool, device=inputs.device) for name in self.family.flags
        }
        return network(**{self._input: inputs.to(like.dtype)}, **flags)
