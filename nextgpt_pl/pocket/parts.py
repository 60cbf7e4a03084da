"""Frozen parts of the pocket model at run time: its decoders, and its encoder of media and captions."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from nextgpt_pl.decoders import AudioLDMDecoder, DiffusionDecoder
from nextgpt_pl.encoders import preprocessing
from nextgpt_pl.encoders.imagebind import ImageBindConfig, ImageBindModel
from nextgpt_pl.encoders.imagebind_encoder import TOWER
from nextgpt_pl.media.reading import array_of, frames_of
from nextgpt_pl.modality import Modality
from nextgpt_pl.pocket.mel import compressed_mel
from nextgpt_pl.pocket.world.scenes import SAMPLE_RATE, VIDEO_FPS
from nextgpt_pl.samples import Media
from nextgpt_pl.utils.paths import pocket_weights

# the decoders of a folder of pocket weights; experiments/models/pocket.yaml has the same settings
_GUIDED: dict[str, Any] = {"guidance_scale": 3.0, "guidance_interval": [0.2, 0.7]}
_PICTURES: dict[str, Any] = {"num_inference_steps": 6, **_GUIDED, "height": 64, "width": 64}
_VIDEOS: dict[str, Any] = {**_PICTURES, "num_frames": 8}
_SOUNDS: dict[str, Any] = {
    "num_inference_steps": 6,
    **_GUIDED,
    "guidance_interval": [0.0, 0.7],
    "audio_length_in_s": 2.0,
}
VIDEO_CLIPS = 4  # of a video in the joint embedding space
#: file in a part's folder: its training settings and measured quality
QUALITY = "quality.json"
#: parts that the video decoder shares with the image decoder; stored once
SHARED_PARTS = ("vae", "text_encoder", "tokenizer")


def pocket_decoder(modality: Modality, root: Path | None = None) -> DiffusionDecoder:
    """A decoder with the package's weights, or with those in the folder ``root``."""
    root = root or pocket_weights()
    path = str(root / modality.value)
    if modality is Modality.IMAGE:
        return DiffusionDecoder("StableDiffusionPipeline", path, _PICTURES)
    if modality is Modality.VIDEO:
        parts = dict.fromkeys(SHARED_PARTS, str(root / Modality.IMAGE.value))
        return DiffusionDecoder("TextToVideoSDPipeline", path, _VIDEOS, parts=parts, fps=VIDEO_FPS)
    return AudioLDMDecoder(
        "AudioLDMPipeline", path, _SOUNDS, spectrogram=compressed_mel, scheduler="UniPCMultistepScheduler"
    )


class JointEncoder(nn.Module):
    """ImageBind's towers with their tokenizer: media and captions in one embedding space.

    Args:
        model: ImageBind with a vision, an audio and a text tower.
        tokenizer: tokenizer that pads captions to the text tower's context length.

    """

    def __init__(self, model: ImageBindModel, tokenizer: Any) -> None:
        super().__init__()
        self.model, self.tokenizer = model, tokenizer

    @classmethod
    def of_package(cls) -> JointEncoder:
        """The pocket encoder with the package's weights, in evaluation mode."""
        return cls.of(pocket_weights() / "encoder")

    @classmethod
    def of(cls, folder: Path) -> JointEncoder:
        """The pocket encoder with the weights and the tokenizer in a folder, in evaluation mode."""
        tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
        model = ImageBindModel(ImageBindConfig.from_json(folder / "config.json"))
        model.load_state_dict({k: v.float() for k, v in load_file(folder / "model.safetensors").items()})
        return cls(model, tokenizer).eval()

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return next(self.model.parameters()).device

    def embed_captions(self, captions: Sequence[str]) -> Tensor:
        """Unit embeddings ``(N, D)``."""
        ids = self.tokenizer(list(captions), padding="max_length", truncation=True, return_tensors="pt").input_ids
        return self.model("text", ids.to(self.device), scale=False)

    def read(self, medium: Media) -> np.ndarray:
        """A medium as array; of a video, the frames that :meth:`embed_media` needs."""
        if medium.modality is not Modality.VIDEO:
            return array_of(medium)[0]
        config = self.model.config
        return frames_of(
            medium, VIDEO_CLIPS * config.clip_frames, partial(preprocessing.square, size=config.image_size)
        )

    def embed_media(self, arrays: Sequence[np.ndarray], modality: Modality) -> Tensor:
        """Unit embeddings ``(N, D)`` of media of the pocket world; videos as four clips of two neighbouring frames."""
        return self.embed([self.prepare(array, modality) for array in arrays], modality)

    def prepare(self, array: np.ndarray, modality: Modality) -> Tensor:
        """The towers' input of a medium."""
        config = self.model.config
        if modality is Modality.IMAGE:
            return preprocessing.picture(array, config.image_size)
        if modality is Modality.VIDEO:
            return preprocessing.video_clips(array, config.image_size, VIDEO_CLIPS, config.clip_frames)
        return preprocessing.audio_clips(array, SAMPLE_RATE, 1, 2.0, config.mel_bins, config.mel_frames)

    def embed(self, inputs: Sequence[Tensor], modality: Modality) -> Tensor:
        """Unit embeddings ``(N, D)`` of what :meth:`prepare` returned."""
        return self.model(TOWER[modality], torch.stack(list(inputs)).to(self.device), scale=False)
