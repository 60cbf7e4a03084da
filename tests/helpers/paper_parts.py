"""Tiny random instances of the paper's classes, saved in the folder layout of the real ones."""

import torch

from nextgpt_pl.utils.paths import resolve

LENGTH = 77


def _tokenizer(length, chat=False):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(resolve("pocket:llm"), model_max_length=length)
    if not chat:
        tokenizer.chat_template = None
    return tokenizer


def _llama(folder):
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = _tokenizer(512)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=1024,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _imagebind(folder):
    from safetensors.torch import save_file

    from nextgpt_pl.encoders.imagebind import ImageBindConfig, ImageBindModel, TowerConfig

    folder.mkdir()
    config = ImageBindConfig(
        out_dim=24,
        towers={"vision": TowerConfig(16, 2, 2), "audio": TowerConfig(16, 2, 2, scale=20.0)},
        image_size=28,
    )
    config.to_json(folder / "config.json")
    save_file(ImageBindModel(config).state_dict(), folder / "model.safetensors")


def _clip(width):
    from transformers import CLIPTextConfig, CLIPTextModel

    config = CLIPTextConfig(
        vocab_size=len(_tokenizer(LENGTH)),
        hidden_size=width,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=LENGTH,
        bos_token_id=1,
        eos_token_id=2,
    )
    return CLIPTextModel(config)


def _vae(channels, latents, blocks):
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        in_channels=channels,
        out_channels=channels,
        latent_channels=latents,
        block_out_channels=[4] * blocks,
        norm_num_groups=2,
        down_block_types=["DownEncoderBlock2D"] * blocks,
        up_block_types=["UpDecoderBlock2D"] * blocks,
    )


def _scheduler(prediction_type="epsilon"):
    from diffusers import DDIMScheduler

    return DDIMScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type=prediction_type,
    )


def stable_diffusion(folder, prediction_type="epsilon"):
    from diffusers import StableDiffusionPipeline, UNet2DConditionModel

    unet = UNet2DConditionModel(
        sample_size=32,
        block_out_channels=(4, 8),
        layers_per_block=1,
        norm_num_groups=2,
        attention_head_dim=2,
        cross_attention_dim=16,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    )
    parts = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    StableDiffusionPipeline(
        vae=_vae(3, 4, 5),
        text_encoder=_clip(16),
        tokenizer=_tokenizer(LENGTH),
        unet=unet,
        scheduler=_scheduler(prediction_type),
        **parts,
    ).save_pretrained(folder)


def _zeroscope(folder):
    from diffusers import TextToVideoSDPipeline, UNet3DConditionModel

    unet = UNet3DConditionModel(
        sample_size=8,
        block_out_channels=(4, 8),
        layers_per_block=1,
        norm_num_groups=2,
        attention_head_dim=2,
        cross_attention_dim=24,
        down_block_types=("CrossAttnDownBlock3D", "DownBlock3D"),
        up_block_types=("UpBlock3D", "CrossAttnUpBlock3D"),
    )
    TextToVideoSDPipeline(
        vae=_vae(3, 4, 5), text_encoder=_clip(24), tokenizer=_tokenizer(LENGTH), unet=unet, scheduler=_scheduler()
    ).save_pretrained(folder)


def _audioldm(folder):
    from diffusers import AudioLDMPipeline, UNet2DConditionModel
    from transformers import ClapTextConfig, ClapTextModelWithProjection, SpeechT5HifiGan, SpeechT5HifiGanConfig

    unet = UNet2DConditionModel(
        sample_size=16,
        in_channels=4,
        out_channels=4,
        block_out_channels=(4, 8),
        layers_per_block=1,
        norm_num_groups=2,
        attention_head_dim=2,
        cross_attention_dim=(4, 8),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        class_embed_type="simple_projection",
        projection_class_embeddings_input_dim=20,
        class_embeddings_concat=True,
    )
    text = ClapTextConfig(
        vocab_size=len(_tokenizer(LENGTH)),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        projection_dim=20,
        max_position_embeddings=140,
        pad_token_id=0,
    )
    vocoder = SpeechT5HifiGanConfig(
        model_in_dim=64,
        sampling_rate=16000,
        upsample_initial_channel=16,
        upsample_rates=[5, 4, 8],
        upsample_kernel_sizes=[10, 8, 16],
        resblock_kernel_sizes=[3],
        resblock_dilation_sizes=[[1]],
        normalize_before=False,
    )
    AudioLDMPipeline(
        vae=_vae(1, 4, 3),
        text_encoder=ClapTextModelWithProjection(text),
        tokenizer=_tokenizer(128),
        unet=unet,
        scheduler=_scheduler(),
        vocoder=SpeechT5HifiGan(vocoder),
    ).save_pretrained(folder)


def save_parts(folder):
    """Save ``llm``, ``encoder``, ``image``, ``video`` and ``audio`` in ``folder``."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        _llama(folder / "llm")
        _imagebind(folder / "encoder")
        save_pipelines(folder)


def save_pipelines(folder):
    """``image``, ``video`` and ``audio`` in ``folder``."""
    stable_diffusion(folder / "image")
    _zeroscope(folder / "video")
    _audioldm(folder / "audio")
