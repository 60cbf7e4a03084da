"""Features by the classes of transformers called directly with their processors, which encoders are compared with."""

from collections.abc import Sequence

import numpy as np
import torch
import transformers


def _of_images(folder: str, pictures: Sequence[np.ndarray]):
    processor = transformers.AutoImageProcessor.from_pretrained(folder)
    return processor(images=list(pictures), return_tensors="pt")


def _siglip(folder, pictures):
    model = transformers.SiglipModel.from_pretrained(folder)
    output = model.vision_model(**_of_images(folder, pictures))
    pooled = model.get_image_features(**_of_images(folder, pictures)).pooler_output
    return pooled, output.last_hidden_state


def _siglip_vision(folder, pictures):
    output = transformers.SiglipVisionModel.from_pretrained(folder)(**_of_images(folder, pictures))
    return output.pooler_output, output.last_hidden_state


@torch.no_grad()
def naflex(folder: str, picture: np.ndarray) -> tuple[torch.Tensor, torch.Tensor, list[int]]:
    """Pooled feature ``(C,)``, patches ``(E, C)`` and their rows and columns of one picture by SigLIP 2."""
    inputs = _of_images(folder, [picture])
    model = transformers.Siglip2Model.from_pretrained(folder)
    shape = inputs["spatial_shapes"][0].tolist()
    states = model.vision_model(**inputs).last_hidden_state[0, : shape[0] * shape[1]]
    return model.get_image_features(**inputs).pooler_output[0], states, shape


def _clip(folder, pictures):
    model = transformers.CLIPModel.from_pretrained(folder)
    output = model.vision_model(**_of_images(folder, pictures))
    return model.visual_projection(output.pooler_output), output.last_hidden_state[:, 1:]


def _dino(folder, pictures):
    model = transformers.AutoModel.from_pretrained(folder)
    output = model(**_of_images(folder, pictures))
    return output.pooler_output, output.last_hidden_state[:, 1 + getattr(model.config, "num_register_tokens", 0) :]


def _whisper(folder, windows):
    model = transformers.WhisperForConditionalGeneration.from_pretrained(folder)
    extractor = transformers.AutoFeatureExtractor.from_pretrained(folder)
    inputs = extractor(list(windows), sampling_rate=16_000, return_tensors="pt")
    states = model.get_encoder()(**inputs).last_hidden_state
    return states.mean(1), states


def _clap(folder, windows):
    model = transformers.ClapModel.from_pretrained(folder)
    extractor = transformers.AutoFeatureExtractor.from_pretrained(folder)
    inputs = extractor(list(windows), sampling_rate=8_000, return_tensors="pt")
    output = model.audio_model(**inputs)
    states = output.last_hidden_state.permute(0, 3, 2, 1)  # (N, C, frequency, time) to (N, time, frequency, C)
    return model.audio_projection(output.pooler_output), states.flatten(1, 2)


def _videomae(folder, video):
    processor = transformers.VideoMAEImageProcessor.from_pretrained(folder)
    model = transformers.VideoMAEForPreTraining.from_pretrained(folder)
    states = model.videomae(**processor(list(video), return_tensors="pt")).last_hidden_state
    return states.mean(1), states


def _vjepa2(folder, video):
    processor = transformers.AutoVideoProcessor.from_pretrained(folder)
    states = transformers.AutoModel.from_pretrained(folder).get_vision_features(**processor(video, return_tensors="pt"))
    return states.mean(1), states


_BY_NAME = {
    "SigLIP, SigLIP 2": _siglip,
    "SigLIP, vision alone": _siglip_vision,
    "CLIP": _clip,
    "DINOv2": _dino,
    "DINOv2 with registers": _dino,
    "DINOv3": _dino,
    "Whisper": _whisper,
    "CLAP": _clap,
    "VideoMAE": _videomae,
    "V-JEPA 2": _vjepa2,
}


@torch.no_grad()
def direct(name: str, folder: str, inputs: Sequence[np.ndarray] | np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """Pooled features ``(N, C)`` and patches ``(N, E, C)`` of N pictures or windows of a sound, or of one video."""
    return _BY_NAME[name](folder, inputs)
