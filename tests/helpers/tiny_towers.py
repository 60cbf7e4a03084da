"""Tiny random towers of the transformers library, saved to folders whole, as the published ones are."""

from collections.abc import Iterable
from pathlib import Path

import torch

_LAYERS = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
_PATCHES = {**_LAYERS, "image_size": 24, "patch_size": 8}
_TEXT = {**_LAYERS, "vocab_size": 20}
_SQUARE = {"height": 24, "width": 24}


def siglip(folder: Path) -> None:
    """The class of SigLIP and of SigLIP 2 with a fixed resolution."""
    from transformers import SiglipConfig, SiglipImageProcessor, SiglipModel

    SiglipModel(SiglipConfig(text_config=_TEXT, vision_config=_PATCHES)).save_pretrained(folder)
    SiglipImageProcessor(size=_SQUARE).save_pretrained(folder)


def siglip_naflex(folder: Path) -> None:
    """SigLIP 2 with a variable resolution: at most twelve patches of a picture."""
    from transformers import Siglip2Config, Siglip2ImageProcessor, Siglip2Model

    vision = {**_LAYERS, "patch_size": 8, "num_patches": 9}
    Siglip2Model(Siglip2Config(text_config=_TEXT, vision_config=vision)).save_pretrained(folder)
    Siglip2ImageProcessor(patch_size=8, max_num_patches=12).save_pretrained(folder)


def siglip_vision(folder: Path) -> None:
    """A folder of the vision tower alone."""
    from transformers import SiglipImageProcessor, SiglipVisionConfig, SiglipVisionModel

    SiglipVisionModel(SiglipVisionConfig(**_PATCHES)).save_pretrained(folder)
    SiglipImageProcessor(size=_SQUARE).save_pretrained(folder)


def clip(folder: Path) -> None:
    """With a projection that is narrower than the states."""
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

    vision = {**_PATCHES, "projection_dim": 12}
    config = CLIPConfig(text_config={**_TEXT, "projection_dim": 12}, vision_config=vision, projection_dim=12)
    CLIPModel(config).save_pretrained(folder)
    CLIPImageProcessor(size={"shortest_edge": 24}, crop_size=_SQUARE).save_pretrained(folder)


def dinov2(folder: Path) -> None:
    """Positions of larger images than the processor gives, as the published ones have."""
    from transformers import BitImageProcessor, Dinov2Config, Dinov2Model

    Dinov2Model(Dinov2Config(**{**_PATCHES, "image_size": 40})).save_pretrained(folder)
    BitImageProcessor(size={"shortest_edge": 28}, crop_size=_SQUARE).save_pretrained(folder)


def dinov2_with_registers(folder: Path) -> None:
    """DINOv2 with register tokens."""
    from transformers import BitImageProcessor, Dinov2WithRegistersConfig, Dinov2WithRegistersModel

    config = Dinov2WithRegistersConfig(**_PATCHES, num_register_tokens=3)
    Dinov2WithRegistersModel(config).save_pretrained(folder)
    BitImageProcessor(size={"shortest_edge": 28}, crop_size=_SQUARE).save_pretrained(folder)


def dinov3(folder: Path) -> None:
    """With register tokens, as the published ones have."""
    from transformers import DINOv3ViTConfig, DINOv3ViTImageProcessor, DINOv3ViTModel

    DINOv3ViTModel(DINOv3ViTConfig(**_PATCHES, num_register_tokens=3)).save_pretrained(folder)
    DINOv3ViTImageProcessor(size=_SQUARE).save_pretrained(folder)


def whisper(folder: Path) -> None:
    """Encoder and decoder; windows of one second instead of 30."""
    from transformers import WhisperConfig, WhisperFeatureExtractor, WhisperForConditionalGeneration

    sizes = {f"{part}_{name}": 2 for part in ("encoder", "decoder") for name in ("layers", "attention_heads")}
    config = WhisperConfig(
        **sizes,
        d_model=16,
        encoder_ffn_dim=24,
        decoder_ffn_dim=24,
        vocab_size=20,
        num_mel_bins=8,
        max_source_positions=50,
        **{f"{name}_token_id": 1 for name in ("pad", "bos", "eos", "decoder_start")},
    )
    WhisperForConditionalGeneration(config).save_pretrained(folder)
    WhisperFeatureExtractor(feature_size=8, chunk_length=1).save_pretrained(folder)


def clap(folder: Path) -> None:
    """Windows of one second."""
    from transformers import ClapConfig, ClapFeatureExtractor, ClapModel

    audio = {"spec_size": 64, "num_mel_bins": 16, "patch_embeds_hidden_size": 8, "hidden_size": 16, "window_size": 4}
    audio |= {"depths": [1, 1], "num_attention_heads": [1, 1], "num_hidden_layers": 2, "patch_stride": [4, 4]}
    config = ClapConfig(text_config=_TEXT, audio_config=audio, projection_dim=8)
    ClapModel(config).save_pretrained(folder)
    extractor = ClapFeatureExtractor(
        feature_size=16, sampling_rate=8_000, max_length_s=1, truncation="rand_trunc", padding="repeatpad"
    )
    extractor.save_pretrained(folder)


def videomae(folder: Path) -> None:
    """The class of the published pre-trained ones, with a decoder; their processor is that of images."""
    from transformers import VideoMAEConfig, VideoMAEForPreTraining, VideoMAEImageProcessor

    decoder = {f"decoder_{name}": size for name, size in _LAYERS.items()}
    config = VideoMAEConfig(**_PATCHES, **decoder, num_frames=4, use_mean_pooling=False)
    VideoMAEForPreTraining(config).save_pretrained(folder)
    VideoMAEImageProcessor(size={"shortest_edge": 24}, crop_size=_SQUARE).save_pretrained(folder)


def vjepa2(folder: Path) -> None:
    """With the predictor, which an encoder does not need."""
    from transformers import VJEPA2Config, VJEPA2Model, VJEPA2VideoProcessor

    predictor = {f"pred_{name}": _LAYERS[name] for name in ("hidden_size", "num_hidden_layers", "num_attention_heads")}
    sizes = {name: size for name, size in _LAYERS.items() if name != "intermediate_size"}
    config = VJEPA2Config(**{**sizes, "hidden_size": 24}, **predictor, patch_size=8, crop_size=24, frames_per_clip=4)
    VJEPA2Model(config).save_pretrained(folder)
    VJEPA2VideoProcessor(crop_size=24).save_pretrained(folder)


IMAGES = {
    "SigLIP, SigLIP 2": siglip,
    "SigLIP, vision alone": siglip_vision,
    "CLIP": clip,
    "DINOv2": dinov2,
    "DINOv2 with registers": dinov2_with_registers,
    "DINOv3": dinov3,
}
#: image towers whose number of patches depends on the picture
FLEXIBLE = {"SigLIP 2 NaFlex": siglip_naflex}
SOUNDS = {"Whisper": whisper, "CLAP": clap}
VIDEOS = {"VideoMAE": videomae, "V-JEPA 2": vjepa2}
TOWERS = {**IMAGES, **FLEXIBLE, **SOUNDS, **VIDEOS}


def save_towers(root: Path, names: Iterable[str] = TOWERS) -> dict[str, str]:
    """A folder of each of the named towers."""
    torch.manual_seed(0)
    for name in names:
        TOWERS[name](root / name)
    return {name: str(root / name) for name in names}
