"""Feature extractors of the media scores: media and captions to features ``(N, D)``; loaded on first use."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from functools import cached_property
from itertools import groupby
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from nextgpt_pl.encoders.clip_clap import clap_input
from nextgpt_pl.errors import UserError
from nextgpt_pl.media.audio import resample
from nextgpt_pl.media.reading import array_of, frames_of
from nextgpt_pl.metrics.extractor import Extractor, device_of
from nextgpt_pl.modality import Modality
from nextgpt_pl.samples import Media
from nextgpt_pl.utils.paths import resolve
from nextgpt_pl.utils.quiet import quiet_loading

__all__ = ["ClapFeatures", "ClipFeatures", "Extractor", "InceptionFeatures", "ModuleFeatures", "PocketFeatures"]


class PocketFeatures(Extractor):
    """The pocket ImageBind: image, video, audio and text in one space; for offline use on the pocket world.

    Args:
        logits: return class logits for the inception score and KL divergence: similarities to one caption of each
            audio scene. Only audio has few enough scenes to be classes.
        device: see :class:`Extractor`.

    """

    def __init__(self, logits: bool = False, device: str | None = None) -> None:
        self.name, self.logits, self.device = "pocket ImageBind", logits, device_of(device)

    @cached_property
    def _encoder(self) -> Any:
        from nextgpt_pl.pocket.parts import JointEncoder

        return JointEncoder.of_package().to(self.device)

    @cached_property
    def _classes(self) -> Tensor:
        from nextgpt_pl.pocket.world import grammar
        from nextgpt_pl.pocket.world.scenes import audio_scenes, item_rng

        scenes = [s for split in ("train", "heldout") for s in audio_scenes(split)]
        rng = item_rng("train", Modality.AUDIO, 0, 0, "classes")
        return self._captions([grammar.caption(scene, rng) for scene in scenes])

    @property
    def identity(self) -> Hashable:
        """Equal for the same output and device."""
        return type(self), self.logits, self.device

    def _read(self, medium: Media) -> tuple[Modality, Tensor]:
        return medium.modality, self._encoder.prepare(self._encoder.read(medium), medium.modality)

    def _media(self, media: Sequence[tuple[Modality, Tensor]]) -> Tensor:
        features = F.normalize(self._encoder.embed([tensor for _, tensor in media], media[0][0]), dim=1)
        return features @ self._classes.T * 20 if self.logits else features

    def _captions(self, captions: Sequence[str]) -> Tensor:
        return F.normalize(self._encoder.embed_captions(captions), dim=1)


class _TwoTowers(Extractor):
    """A model of transformers with a text encoder beside that of media.

    Args:
        name: name in tables.
        model: hub id or folder.
        device: see :class:`Extractor`.

    Attributes:
        model_class: name of the model's class in transformers.

    """

    model_class: str

    def __init__(self, name: str, model: str, device: str | None) -> None:
        self.name, self.model, self.device = name, model, device_of(device)

    @property
    def identity(self) -> Hashable:
        """Equal for the same model and device."""
        return type(self), self.model, self.device

    @cached_property
    def _parts(self) -> tuple[Any, Any]:
        """The model and its processor."""
        import transformers

        folder = resolve(self.model)
        with quiet_loading():
            model = getattr(transformers, self.model_class).from_pretrained(folder)
        return model.to(self.device).eval(), transformers.AutoProcessor.from_pretrained(folder, trust_remote_code=False)

    def _captions(self, captions: Sequence[str]) -> Tensor:
        model, processor = self._parts
        encoded = processor.tokenizer(list(captions), return_tensors="pt", padding=True, truncation=True)
        return F.normalize(_tensor(model.get_text_features(**encoded.to(self.device))), dim=1)


class ClipFeatures(_TwoTowers):
    """CLIP of transformers: images and captions; of a video, the mean over ``frames`` frames (CLIPSIM).

    Args:
        model: hub id or folder.
        frames: number of evenly spaced frames per video.
        device: see :class:`Extractor`.

    """

    model_class = "CLIPModel"

    def __init__(self, model: str = "openai/clip-vit-base-patch16", frames: int = 8, device: str | None = None) -> None:
        super().__init__(f"CLIP {model}", model, device)
        self.frames = frames

    @property
    def identity(self) -> Hashable:
        """Equal for the same model, frames and device."""
        return super().identity, self.frames

    def _read(self, medium: Media) -> Tensor:
        """Pixels ``(frames, 3, H, W)``."""
        video = medium.modality is Modality.VIDEO
        frames = list(frames_of(medium, self.frames, repeat=False)) if video else [array_of(medium)[0]]
        return self._parts[1](images=frames, return_tensors="pt").pixel_values

    def _media(self, media: Sequence[Tensor]) -> Tensor:
        pixels = torch.cat(list(media)).to(self.device)
        features = F.normalize(_tensor(self._parts[0].get_image_features(pixel_values=pixels)), dim=1)
        return torch.stack([part.mean(0) for part in features.split([len(medium) for medium in media])])


class ClapFeatures(_TwoTowers):
    """CLAP of transformers: sounds and captions.

    Args:
        model: hub id or folder.
        device: see :class:`Extractor`.

    """

    model_class = "ClapModel"

    def __init__(self, model: str = "laion/clap-htsat-unfused", device: str | None = None) -> None:
        super().__init__(f"CLAP {model}", model, device)

    def _read(self, medium: Media) -> Tensor:
        return clap_input(*array_of(medium), self._parts[1].feature_extractor)

    def _media(self, media: Sequence[Tensor]) -> Tensor:
        inputs = torch.stack(list(media)).to(self.device)
        is_longer = torch.zeros(len(inputs), 1, dtype=torch.bool, device=self.device)
        return F.normalize(
            _tensor(self._parts[0].get_audio_features(input_features=inputs, is_longer=is_longer)), dim=1
        )


class InceptionFeatures(Extractor):
    """FID's own Inception v3 of torch-fidelity: 2,048 features of an image, or its 1,008 logits.

    Args:
        logits: return logits, for the inception score.
        device: see :class:`Extractor`.

    """

    def __init__(self, logits: bool = False, device: str | None = None) -> None:
        self.name, self.logits, self.device = "Inception v3", logits, device_of(device)

    @property
    def identity(self) -> Hashable:
        """Equal for the same output and device."""
        return type(self), self.logits, self.device

    @cached_property
    def _network(self) -> Any:
        try:
            from torchmetrics.image.fid import NoTrainInceptionV3
        except ImportError as error:
            raise UserError(f"{self.name}: pip install torch-fidelity ({error})") from error
        feature = "logits_unbiased" if self.logits else "2048"
        return NoTrainInceptionV3(name="inception-v3-compat", features_list=[feature]).to(self.device)

    def _read(self, medium: Media) -> Tensor:
        return torch.from_numpy(np.array(array_of(medium)[0])).permute(2, 0, 1)

    def _media(self, media: Sequence[Tensor]) -> Tensor:
        return _in_equal_batches(lambda batch: self._network(batch).float(), media, self.device)


class ModuleFeatures(Extractor):
    """Features of a user-defined module that takes a batch of arrays as float32 tensor, such as I3D for FVD.

    Args:
        module: an ``nn.Module``, given by ``class_path`` in YAML.
        name: name in tables.
        sample_rate: sample rate that audio is resampled to; ``None``: no resampling.
        device: see :class:`Extractor`.

    """

    def __init__(
        self, module: torch.nn.Module, name: str = "features", sample_rate: int | None = None, device: str | None = None
    ) -> None:
        self.name, self.sample_rate, self.device = name, sample_rate, device_of(device)
        self.module = module.to(self.device).eval()

    def _read(self, medium: Media) -> Tensor:
        array, rate = array_of(medium)
        tensor = torch.from_numpy(np.array(array)).float()
        if medium.modality.form is Modality.AUDIO and self.sample_rate and rate and rate != self.sample_rate:
            return resample(tensor, int(rate), self.sample_rate)
        return tensor

    def _media(self, media: Sequence[Tensor]) -> Tensor:
        return _in_equal_batches(lambda batch: self.module(batch).flatten(1).float(), media, self.device)


def _in_equal_batches(network: Callable[[Tensor], Tensor], tensors: Sequence[Tensor], device: torch.device) -> Tensor:
    """Features ``(N, D)`` of tensors; consecutive tensors of equal shape are batched."""
    features: list[Tensor] = []
    for _, group in groupby(tensors, key=lambda tensor: tensor.shape):
        features.append(network(torch.stack(list(group)).to(device)))
    return torch.cat(features)


def _tensor(output: Any) -> Tensor:
    """Projected features; newer transformers wrap them into an output object."""
    return output if isinstance(output, Tensor) else output.pooler_output
