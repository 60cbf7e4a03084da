"""Feature extractors of the media scores: media and captions to features ``(N, D)``; loaded on first use."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
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
from nextgpt_pl.modality import Modality
from nextgpt_pl.samples import Media
from nextgpt_pl.utils.paths import resolve
from nextgpt_pl.utils.quiet import quiet_loading

_BATCH = 16


class Extractor(ABC):
    """Computes features of media, and of captions if the network has a text encoder.

    Media are read and encoded in small batches.

    Attributes:
        name: name in tables.
        device: device of the network; by default a GPU if there is one.

    """

    name: str

    @cached_property
    def device(self) -> torch.device:
        """Device of the network; by default a GPU if there is one."""
        return device_of(None)

    @torch.no_grad()
    def media(self, media: Sequence[Media]) -> Tensor:
        """``(N, D)`` float32 on the CPU, of media of one modality."""
        return torch.cat([self._media(media[i : i + _BATCH]).cpu() for i in range(0, len(media), _BATCH)])

    @torch.no_grad()
    def captions(self, captions: Sequence[str]) -> Tensor:
        """``(N, D)`` float32 on the CPU."""
        return torch.cat([self._captions(captions[i : i + _BATCH]).cpu() for i in range(0, len(captions), _BATCH)])

    @abstractmethod
    def _media(self, media: Sequence[Media]) -> Tensor: ...

    def _captions(self, captions: Sequence[str]) -> Tensor:
        raise UserError(f"{self.name}: this extractor has no text encoder; CLIP, CLAP and the pocket encoder have")


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

    def _media(self, media: Sequence[Media]) -> Tensor:
        features = F.normalize(self._encoder.embed_media([*map(self._encoder.read, media)], media[0].modality), dim=1)
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

    def _media(self, media: Sequence[Media]) -> Tensor:
        model, processor = self._parts
        frames, lengths = [], []
        for medium in media:
            if medium.modality is Modality.VIDEO:
                selected = list(frames_of(medium, self.frames, repeat=False))
            else:
                selected = [array_of(medium)[0]]
            frames += selected
            lengths.append(len(selected))
        pixels = processor(images=frames, return_tensors="pt").pixel_values.to(self.device)
        features = F.normalize(_tensor(model.get_image_features(pixel_values=pixels)), dim=1)
        return torch.stack([part.mean(0) for part in features.split(lengths)])


class ClapFeatures(_TwoTowers):
    """CLAP of transformers: sounds and captions.

    Args:
        model: hub id or folder.
        device: see :class:`Extractor`.

    """

    model_class = "ClapModel"

    def __init__(self, model: str = "laion/clap-htsat-unfused", device: str | None = None) -> None:
        super().__init__(f"CLAP {model}", model, device)

    def _media(self, media: Sequence[Media]) -> Tensor:
        model, processor = self._parts
        prepared = [clap_input(*array_of(medium), processor.feature_extractor) for medium in media]
        inputs = torch.stack(prepared).to(self.device)
        is_longer = torch.zeros(len(inputs), 1, dtype=torch.bool, device=self.device)
        return F.normalize(_tensor(model.get_audio_features(input_features=inputs, is_longer=is_longer)), dim=1)


class InceptionFeatures(Extractor):
    """FID's own Inception v3 of torch-fidelity: 2,048 features of an image, or its 1,008 logits.

    Args:
        logits: return logits, for the inception score.
        device: see :class:`Extractor`.

    """

    def __init__(self, logits: bool = False, device: str | None = None) -> None:
        self.name, self.logits, self.device = "Inception v3", logits, device_of(device)

    @cached_property
    def _network(self) -> Any:
        try:
            from torchmetrics.image.fid import NoTrainInceptionV3
        except ImportError as error:
            raise UserError(f"{self.name}: pip install torch-fidelity ({error})") from error
        feature = "logits_unbiased" if self.logits else "2048"
        return NoTrainInceptionV3(name="inception-v3-compat", features_list=[feature]).to(self.device)

    def _media(self, media: Sequence[Media]) -> Tensor:
        images = [torch.from_numpy(np.array(array_of(m)[0])).permute(2, 0, 1) for m in media]
        return _in_equal_batches(lambda batch: self._network(batch).float(), images, self.device)


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

    def _media(self, media: Sequence[Media]) -> Tensor:
        tensors = []
        for medium in media:
            array, rate = array_of(medium)
            tensor = torch.from_numpy(np.array(array)).float()
            if medium.modality is Modality.AUDIO and self.sample_rate and rate and rate != self.sample_rate:
                tensor = resample(tensor, int(rate), self.sample_rate)
            tensors.append(tensor)
        return _in_equal_batches(lambda batch: self.module(batch).flatten(1).float(), tensors, self.device)


def device_of(name: str | None) -> torch.device:
    """The given device, by default a GPU if there is one.

    Raises:
        UserError: the name is not that of a device.

    """
    try:
        return torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
    except RuntimeError as error:
        raise UserError(f"device={name!r}: no such device; cpu, cuda and cuda:1 are some") from error


def _in_equal_batches(network: Callable[[Tensor], Tensor], tensors: Sequence[Tensor], device: torch.device) -> Tensor:
    """Features ``(N, D)`` of tensors; consecutive tensors of equal shape are batched."""
    features: list[Tensor] = []
    for _, group in groupby(tensors, key=lambda tensor: tensor.shape):
        features.append(network(torch.stack(list(group)).to(device)))
    return torch.cat(features)


def _tensor(output: Any) -> Tensor:
    """Projected features; newer transformers wrap them into an output object."""
    return output if isinstance(output, Tensor) else output.pooler_output
