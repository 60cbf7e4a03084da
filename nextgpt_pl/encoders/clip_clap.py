"""CLIP for images and videos, and CLAP for audio, from transformers; an alternative to ImageBind.

Their embedding spaces are unrelated, so each modality needs its own input projection, which is the default. Features of
the narrower network are padded with zeros.
"""

from __future__ import annotations

from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nextgpt_pl.encoders import preprocessing
from nextgpt_pl.encoders.base import Encoder, known_modalities
from nextgpt_pl.errors import UserError
from nextgpt_pl.features.keys import folder_sha256
from nextgpt_pl.media.audio import resample
from nextgpt_pl.media.reading import array_of, frames_of
from nextgpt_pl.modality import GENERATED, Modality
from nextgpt_pl.samples import Media
from nextgpt_pl.utils.paths import resolve
from nextgpt_pl.utils.quiet import quiet_loading

VERSION = 1  # raise it when features change; see nextgpt_pl.features.keys


class ClipClapEncoder(Encoder):
    """Frozen CLIP and CLAP: a medium to one projected feature of unit length; a video to the mean over its frames.

    Args:
        clip: hub id or folder of a ``CLIPVisionModelWithProjection``; for images and videos.
        clap: hub id or folder of a ``ClapAudioModelWithProjection``; for sounds.
        modalities: supported modalities; image, video and audio by default. A network that none of them needs is not
            loaded.
        video_frames: number of evenly spaced frames per video.

    """

    def __init__(
        self,
        clip: str = "openai/clip-vit-large-patch14",
        clap: str = "laion/clap-htsat-unfused",
        modalities: list[str] | None = None,
        video_frames: int = 8,
    ) -> None:
        super().__init__()
        if video_frames < 1:
            raise UserError(f"encoder.video_frames={video_frames}: at least 1")
        self.modalities = known_modalities(modalities, GENERATED)
        self.paths = {m: clap if m is Modality.AUDIO else clip for m in self.modalities}
        self.video_frames = video_frames
        self.networks = nn.ModuleDict()

    @cached_property
    def _configs(self) -> dict[str, Any]:
        from transformers import AutoConfig

        configs = {}
        for path in dict.fromkeys(self.paths.values()):
            try:
                configs[path] = AutoConfig.from_pretrained(resolve(path), trust_remote_code=False)
            except (OSError, ValueError) as error:
                raise UserError(f"encoder: {path!r}: {str(error).splitlines()[0]}") from error
        return configs

    def width(self, _modality: Modality) -> int:
        """Width of the wider projection, for all modalities."""
        return max(int(config.projection_dim) for config in self._configs.values())

    @property
    def source(self) -> str:
        """Both names, as configured."""
        return " + ".join(dict.fromkeys(self.paths.values()))

    @property
    def loaded(self) -> bool:
        """Whether the networks are loaded."""
        return len(self.networks) > 0

    def producer(self, modality: Modality) -> dict[str, Any]:
        """Weights, number of frames, and versions of the code."""
        folder = Path(resolve(self.paths[modality]))
        return {
            "class": type(self).__name__,
            "weights": folder_sha256(folder) if folder.is_dir() else str(folder),
            "width": self.width(modality),
            "frames": self.video_frames if modality is Modality.VIDEO else 1,
            "version": VERSION,
            "preprocessing": preprocessing.VERSION,
        }

    def load(self) -> None:
        """Read CLIP's vision tower and CLAP's audio tower; under the meta device nothing is read."""
        from transformers import ClapAudioModelWithProjection, CLIPVisionModelWithProjection

        for modality, path in self.paths.items():
            kind: Any = ClapAudioModelWithProjection if modality is Modality.AUDIO else CLIPVisionModelWithProjection
            name = _network_name(modality)
            if name in self.networks:
                continue
            if torch.get_default_device().type == "meta":
                config = self._configs[path]
                part = config.audio_config if modality is Modality.AUDIO else config.vision_config
                part.projection_dim = config.projection_dim
                self.networks[name] = kind(part)
            else:
                with quiet_loading():
                    self.networks[name] = kind.from_pretrained(resolve(path), dtype=torch.float32)
        self.networks.requires_grad_(False).eval()

    @cached_property
    def _processors(self) -> dict[str, Any]:
        from transformers import ClapFeatureExtractor, CLIPImageProcessor

        processors: dict[str, Any] = {}
        for modality, path in self.paths.items():
            kind: Any = ClapFeatureExtractor if modality is Modality.AUDIO else CLIPImageProcessor
            processors.setdefault(_network_name(modality), kind.from_pretrained(resolve(path)))
        return processors

    def blank(self, modality: Modality) -> Tensor:
        """Black pictures, or silence."""
        shapes = {Modality.IMAGE: (8, 8, 3), Modality.VIDEO: (1, 8, 8, 3), Modality.AUDIO: (16_000,)}
        dtype = np.float32 if modality is Modality.AUDIO else np.uint8
        array = np.zeros(shapes[modality], dtype)
        return self.prepare(Media(modality, lambda: array, sample_rate=16_000))[None]

    def prepare(self, media: Media) -> Tensor:
        """Image ``(3, H, W)``, video ``(frames, 3, H, W)``, audio ``(1, frames, bins)``."""
        processor = self._processors[_network_name(media.modality)]
        if media.modality is Modality.VIDEO:
            transform = partial(_processed, processor=processor)
            return torch.from_numpy(frames_of(media, self.video_frames, transform))
        array, rate = array_of(media)
        if media.modality is Modality.AUDIO:
            return clap_input(array, rate, processor)
        return torch.from_numpy(_processed(array, processor))

    @torch.no_grad()
    def forward(self, modality: Modality, inputs: Tensor) -> Tensor:
        """``(N, ...)`` to ``(N, 1, D)``."""
        network: Any = self.networks[_network_name(modality)]
        if modality is Modality.AUDIO:
            is_longer = torch.zeros(len(inputs), 1, dtype=torch.bool, device=inputs.device)
            features = F.normalize(network(input_features=inputs, is_longer=is_longer).audio_embeds, dim=-1)
        else:
            pictures = inputs.flatten(0, 1) if modality is Modality.VIDEO else inputs
            features = F.normalize(network(pixel_values=pictures).image_embeds, dim=-1)
            if modality is Modality.VIDEO:
                features = features.unflatten(0, (len(inputs), -1)).mean(1)
        return F.pad(features, (0, self.width(modality) - features.shape[-1])).unsqueeze(1)


def clap_input(samples: np.ndarray, rate: float | None, processor: Any) -> Tensor:
    """CLAP's input for audio, ``(1, frames, bins)``, or ``(4, frames, bins)`` for a fused CLAP.

    Of audio that is too long, the middle part is used; the library would choose a random part.
    """
    target_rate = int(processor.sampling_rate)
    sound = resample(torch.from_numpy(np.array(samples)), int(rate or target_rate), target_rate).numpy()
    start = max(0, len(sound) - processor.nb_max_samples) // 2
    features = processor(
        sound[start : start + processor.nb_max_samples], sampling_rate=target_rate, return_tensors="pt"
    ).input_features[0]
    assert isinstance(features, Tensor)
    return features


def _processed(picture: np.ndarray, processor: Any) -> np.ndarray:
    """``(H, W, 3)`` to CLIP's input ``(3, size, size)``."""
    return np.asarray(processor(images=picture, return_tensors="np").pixel_values[0])


def _network_name(modality: Modality) -> str:
    return "clap" if modality is Modality.AUDIO else "clip"
