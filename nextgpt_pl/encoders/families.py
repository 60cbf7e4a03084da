"""Table of the vision, audio and video towers of the transformers library, by the model type of their configurations.

A tower turns frames of images, windows of sounds or whole videos into a grid of features ``(T, H, W)``: time, height,
width. Sizes that are 1 are of axes that the tower does not have.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from nextgpt_pl.encoders.grids import Grid
from nextgpt_pl.modality import MODALITIES, Modality

Input = Literal["image", "video", "sound"]

#: modalities whose files are sounds
SOUNDS = tuple(m for m, s in MODALITIES.items() if s.sample_suffix == MODALITIES[Modality.AUDIO].sample_suffix)
#: modalities that towers of each input read; a video is a sequence of images
READS: dict[Input, tuple[Modality, ...]] = {
    "image": (Modality.IMAGE, Modality.VIDEO),
    "video": (Modality.VIDEO,),
    "sound": SOUNDS,
}
_PROCESSORS = {"image": "AutoImageProcessor", "video": "AutoVideoProcessor", "sound": "AutoFeatureExtractor"}


def _patches(config: Any, shape: Sequence[int]) -> Grid:
    """Patches of an image ``(3, H, W)`` or a video ``(T, 3, H, W)``; the time axis of an image is its frame."""
    time = shape[0] // config.tubelet_size if len(shape) == 4 else 1
    return time, shape[-2] // config.patch_size, shape[-1] // config.patch_size


def _halved(_config: Any, shape: Sequence[int]) -> Grid:
    """States of a spectrogram ``(bins, frames)`` whose frames a convolution halves."""
    return shape[-1] // 2, 1, 1


def _clap_cells(config: Any, _shape: Sequence[int]) -> Grid:
    """Time and frequency of CLAP's last stage, which sees a long spectrogram folded to a square."""
    folds = config.spec_size // config.num_mel_bins
    reduction = 2 ** (len(config.depths) - 1)
    height, width = (config.spec_size // reduction // stride for stride in config.patch_stride)
    return folds * width, height // folds, 1


@dataclass(frozen=True)
class Family:
    """One kind of tower.

    Attributes:
        network: class, by its path in transformers.
        input: what one input of the network is.
        layers: path of its layers in the network.
        part: key of its configuration in that of a whole model; empty if there is none.
        pooled: name of the pooled output; empty: the mean of all features.
        pooled_width: key of the pooled output's width in the configuration.
        skipped: number of class and register tokens before the features.
        registers: key of a further number of such tokens in the configuration.
        grid: sizes of the grid, from configuration and shape of an input.
        frames: key of the number of frames of a video in the configuration.
        any_frames: whether it also reads other numbers of frames.
        samples: attribute of the processor with the number of samples of a window.
        flags: boolean inputs ``(N, 1)`` that are false.
        inside: path of the tower in the network, whose other parts are dropped.
        prefixes: prefixes of the tower's keys in files of whole models that the network's class does not know.
        flexible: whether pictures keep their aspect ratio (NaFlex), so that their numbers of patches differ.

    """

    network: str
    input: Input
    layers: str
    part: str = ""
    pooled: str = "pooler_output"
    pooled_width: str = "hidden_size"
    skipped: int = 0
    registers: str = ""
    grid: Callable[[Any, Sequence[int]], Grid] = field(default=_patches)
    frames: str = ""
    any_frames: bool = False
    samples: str = ""
    flags: tuple[str, ...] = ()
    inside: str = ""
    prefixes: tuple[str, ...] = ()
    flexible: bool = False

    @property
    def processor(self) -> str:
        """Class of transformers that prepares inputs."""
        return _PROCESSORS[self.input]

    @property
    def reads(self) -> tuple[Modality, ...]:
        """Modalities that it can be given."""
        return READS[self.input]


_SIGLIP = Family("SiglipVisionModel", "image", "encoder.layers")
_NAFLEX = Family("Siglip2VisionModel", "image", "encoder.layers", flexible=True)
_CLIP = Family(
    "CLIPVisionModelWithProjection",
    "image",
    "vision_model.encoder.layers",
    pooled="image_embeds",
    pooled_width="projection_dim",
    skipped=1,
)
_DINO = Family("Dinov2Model", "image", "encoder.layer", skipped=1)
_CLAP = Family(
    "ClapAudioModelWithProjection",
    "sound",
    "audio_model.audio_encoder.layers",
    pooled="audio_embeds",
    pooled_width="projection_dim",
    grid=_clap_cells,
    samples="nb_max_samples",
    flags=("is_longer",),
)

#: by ``model_type``; of SigLIP 2, models of a fixed resolution have the type ``siglip``, those of a variable one
#: (NaFlex) the type ``siglip2``
FAMILIES: dict[str, Family] = {
    "siglip": replace(_SIGLIP, part="vision_config"),
    "siglip_vision_model": _SIGLIP,
    "siglip2": replace(_NAFLEX, part="vision_config"),
    "siglip2_vision_model": _NAFLEX,
    "clip": replace(_CLIP, part="vision_config"),
    "clip_vision_model": _CLIP,
    "dinov2": _DINO,
    "dinov2_with_registers": replace(_DINO, network="Dinov2WithRegistersModel", registers="num_register_tokens"),
    "dinov3_vit": replace(_DINO, network="DINOv3ViTModel", layers="model.layer", registers="num_register_tokens"),
    "whisper": Family(
        "models.whisper.modeling_whisper.WhisperEncoder",
        "sound",
        "layers",
        pooled="",
        grid=_halved,
        samples="n_samples",
        prefixes=("model.encoder.", "encoder."),
    ),
    "clap": replace(_CLAP, part="audio_config"),
    "clap_audio_model": _CLAP,
    "videomae": Family("VideoMAEModel", "video", "encoder.layer", pooled="", frames="num_frames"),
    "vjepa2": Family(
        "VJEPA2Model", "video", "layer", pooled="", frames="frames_per_clip", any_frames=True, inside="encoder"
    ),
}
