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
from nextgpt_pl.encoders import flexible, preprocessing
from nextgpt_pl.encoders.families import FAMILIES, Family
from nextgpt_pl.errors import UserError, nearest
from nextgpt_pl.features.keys import folder_sha256
from nextgpt_pl.utils.paths import resolve
from nextgpt_pl.utils.quiet import quiet_loading

# float16 has too small a range for the states of some towers
DType = Literal["float32", "bfloat16"]
_BLACK = (32, 32, 3)


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
    def _files(self) -> Any:
        """The configuration in the files, of the whole model."""
        from transformers import AutoConfig

        try:
            return AutoConfig.from_pretrained(resolve(self.path), trust_remote_code=False)
        except (OSError, ValueError) as error:
            raise UserError(f"encoder.path={self.path!r}: {str(error).splitlines()[0]}") from error

    @cached_property
    def _whole(self) -> Any:
        """The configuration of a published model, whose sizes are known without network, or that in the files."""
        from transformers import AutoConfig

        known = published.read(self.path, "config.json")
        return self._files if known is None else AutoConfig.for_model(**known)

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
            raise UserError(f"encoder.path={self.path!r}: model type {kind!r}: no encoder{nearest(kind, FAMILIES)}")
        return FAMILIES[kind]

    @cached_property
    def config(self) -> Any:
        """The tower's configuration, for its sizes."""
        return self._part(self._whole)

    def _part(self, whole: Any) -> Any:
        if not self.family.part:
            return whole
        config = getattr(whole, self.family.part)
        if hasattr(whole, "projection_dim"):
            config.projection_dim = whole.projection_dim
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
            raise UserError(
                f"encoder.path={self.path!r}: no processor that {self.family.processor} reads, such as"
                f" preprocessor_config.json ({str(error).splitlines()[0]})"
            ) from error

    @cached_property
    def _sizing_processor(self) -> Any:
        """A processor that gives inputs of the right size."""
        import transformers

        known = published.read(self.path, "preprocessor_config.json")
        return self.processor if known is None else getattr(transformers, known.pop("class"))(**known)

    def description(self) -> dict[str, str]:
        """What identifies weights and processor, for the key of features."""
        folder = Path(resolve(self.path))
        commit = getattr(self._files, "_commit_hash", None)
        weights = folder_sha256(folder) if folder.is_dir() else f"{self.path}@{commit}" if commit else self.path
        return {"weights": weights, "processor": type(self.processor).__name__, "dtype": self.dtype}

    def load(self) -> nn.Module:
        """The network, frozen; under the meta device nothing is read.

        Raises:
            UserError: the files cannot be read, or have no weights for a part of the tower.

        """
        import transformers

        family, dtype = self.family, getattr(torch, self.dtype)
        kind: Any = attrgetter(family.network)(transformers)
        if torch.get_default_device().type == "meta":
            network = kind._from_config(copy.deepcopy(self.config), dtype=dtype)
        else:
            network = self._read(kind, copy.deepcopy(self._part(self._files)), dtype)
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
        """An image, or a frame of a video, ``(H, W, 3)`` uint8 to ``(3, height, width)`` float32, or packed patches."""
        return self._picture(frame, self.processor)

    def _picture(self, frame: np.ndarray, processor: Any) -> np.ndarray:
        options = {"return_tensors": "pt", "input_data_format": "channels_last"}
        name = processor.model_input_names[0]
        frame = np.require(frame, requirements="W")  # torch warns of arrays that it could change
        if self.family.input == "video":
            pixels = processor(videos=[frame[None]], **options)[name][0, 0]
        else:
            found = processor(images=frame, **options)
            if self.family.flexible:
                return flexible.packed(found)
            pixels = found[name][0]
        return np.asarray(pixels, np.float32)

    def windows(self, samples: np.ndarray, rate: float | None, count: int) -> Tensor:
        """Samples ``(n,)`` of a sound to the spectrograms of ``count`` windows ``(count, ...)``."""
        target, length = int(self.processor.sampling_rate), self._window_samples(self.processor)
        parts = preprocessing.sound_windows(samples, int(rate or target), target, length, count)
        return torch.stack([self._window(part, self.processor) for part in parts])

    def _window_samples(self, processor: Any) -> int:
        return int(getattr(processor, self.family.samples))

    def _window(self, samples: np.ndarray, processor: Any) -> Tensor:
        found = processor(samples, sampling_rate=processor.sampling_rate, return_tensors="pt")
        spectrogram: Tensor = found[processor.model_input_names[0]][0]
        return spectrogram.float()

    def blank(self) -> Tensor:
        """A black picture, or a silent window, as prepared; on the CPU."""
        processor = self._sizing_processor
        with torch.device("cpu"):  # sizes are needed under the meta device, too
            if self.family.input == "sound":
                return self._window(np.zeros(self._window_samples(processor), np.float32), processor)
            return torch.from_numpy(self._picture(np.zeros(_BLACK, np.uint8), processor))

    def run(self, network: nn.Module, inputs: Tensor) -> Any:
        """The network's output for ``(N, ...)``."""
        import transformers

        name = attrgetter(self.family.network)(transformers).main_input_name
        like = next(network.parameters())
        if self.family.flexible:
            return network(**flexible.arguments(inputs, like.dtype))
        flags = {
            flag: torch.zeros(len(inputs), 1, dtype=torch.bool, device=inputs.device) for flag in self.family.flags
        }
        return network(**{name: inputs.to(like.dtype)}, **flags)
