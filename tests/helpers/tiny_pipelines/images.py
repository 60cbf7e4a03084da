"""Tiny random pipelines of images: Stable Diffusion and Flux, and those with an encoder of T5's kind."""

from tiny_pipelines.parts import clip, flow, flow_vae, language_model, mistral_3, t5, tokenizer, vae


def pixart_sigma():
    """T5."""
    from diffusers import DDIMScheduler, PixArtSigmaPipeline, PixArtTransformer2DModel

    transformer = PixArtTransformer2DModel(
        sample_size=8,
        num_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        caption_channels=32,
        cross_attention_dim=16,
        out_channels=8,
        use_additional_conditions=False,
    )
    return PixArtSigmaPipeline(tokenizer(), t5(), vae(), transformer, DDIMScheduler())


def stable_diffusion_xl():
    """Two CLIPs, the pooled vector of the second one."""
    from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel

    unet = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(4, 8),
        layers_per_block=1,
        norm_num_groups=2,
        attention_head_dim=2,
        cross_attention_dim=48,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        addition_embed_type="text_time",
        addition_time_embed_dim=4,
        projection_class_embeddings_input_dim=6 * 4 + 16,
    )
    texts = {"text_encoder": clip(16), "text_encoder_2": clip(32, projection=16)}
    tokenizers = {"tokenizer": tokenizer(), "tokenizer_2": tokenizer()}
    return StableDiffusionXLPipeline(
        vae=vae(), unet=unet, scheduler=EulerDiscreteScheduler(), add_watermarker=False, **tokenizers, **texts
    )


def stable_diffusion_3(with_t5: bool = True):
    """Two CLIPs, both pooled vectors, and T5."""
    from diffusers import SD3Transformer2DModel, StableDiffusion3Pipeline

    transformer = SD3Transformer2DModel(
        sample_size=8,
        patch_size=1,
        in_channels=4,
        num_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=32,
        caption_projection_dim=16,
        pooled_projection_dim=22,
        out_channels=4,
    )
    return StableDiffusion3Pipeline(
        transformer=transformer,
        scheduler=flow(),
        vae=flow_vae(),
        text_encoder=clip(8, projection=10),
        tokenizer=tokenizer(77),
        text_encoder_2=clip(12, projection=12),
        tokenizer_2=tokenizer(77),
        text_encoder_3=t5() if with_t5 else None,
        tokenizer_3=tokenizer() if with_t5 else None,
    )


def flux():
    """CLIP's pooled vector and T5."""
    from diffusers import FluxPipeline, FluxTransformer2DModel

    transformer = FluxTransformer2DModel(
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=32,
        pooled_projection_dim=8,
        axes_dims_rope=(4, 4, 8),
    )
    texts = {"text_encoder": clip(8), "tokenizer": tokenizer(77), "text_encoder_2": t5(), "tokenizer_2": tokenizer()}
    return FluxPipeline(scheduler=flow(), vae=flow_vae(), transformer=transformer, **texts)


def _flux_2_parts(width: int, guided: bool):
    from diffusers import AutoencoderKLFlux2, Flux2Transformer2DModel

    transformer = Flux2Transformer2DModel(
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=width,
        timestep_guidance_channels=16,
        axes_dims_rope=(4, 4, 4, 4),
        guidance_embeds=guided,
    )
    blocks = {"down_block_types": ["DownEncoderBlock2D"] * 2, "up_block_types": ["UpDecoderBlock2D"] * 2}
    autoencoder = AutoencoderKLFlux2(latent_channels=4, block_out_channels=[4, 4], norm_num_groups=2, **blocks)
    return {"transformer": transformer, "vae": autoencoder, "scheduler": flow()}


def flux_2():
    """Three layers of Mistral 3."""
    from diffusers import Flux2Pipeline

    # the layers of the published model are 10, 20 and 30
    return Flux2Pipeline(
        text_encoder=mistral_3(16, layers=30), tokenizer=tokenizer(512), **_flux_2_parts(48, guided=True)
    )


def flux_2_klein():
    """Three layers of Qwen 3, with guidance."""
    from diffusers import Flux2KleinPipeline

    encoder = language_model("Qwen3", layers=27, head=True)
    return Flux2KleinPipeline(text_encoder=encoder, tokenizer=tokenizer(512), **_flux_2_parts(48, guided=False))


def aura_flow():
    """UMT5."""
    from diffusers import AuraFlowPipeline, AuraFlowTransformer2DModel

    transformer = AuraFlowTransformer2DModel(
        sample_size=8,
        in_channels=4,
        num_mmdit_layers=1,
        num_single_dit_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=32,
        caption_projection_dim=16,
        pos_embed_max_size=64,
    )
    return AuraFlowPipeline(tokenizer(), t5(multilingual=True), vae(), transformer, flow())


def chroma():
    """T5."""
    from diffusers import ChromaPipeline, ChromaTransformer2DModel

    transformer = ChromaTransformer2DModel(
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=32,
        axes_dims_rope=(4, 4, 8),
        approximator_num_channels=8,
        approximator_hidden_dim=16,
        approximator_layers=1,
    )
    return ChromaPipeline(flow(), flow_vae(), t5(), tokenizer(), transformer)


def hunyuan_dit():
    """BERT and T5, each with a mask."""
    from diffusers import DDPMScheduler, HunyuanDiT2DModel, HunyuanDiTPipeline
    from transformers import BertConfig, BertModel

    transformer = HunyuanDiT2DModel(
        sample_size=8,
        num_layers=2,
        patch_size=2,
        attention_head_dim=8,
        num_attention_heads=2,
        in_channels=4,
        hidden_size=16,
        cross_attention_dim=16,
        cross_attention_dim_t5=32,
        pooled_projection_dim=8,
        text_len=77,
        text_len_t5=256,
    )
    bert = BertConfig(
        vocab_size=2000,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=77,
    )
    return HunyuanDiTPipeline(
        vae=vae(),
        text_encoder=BertModel(bert).eval(),
        tokenizer=tokenizer(77),
        transformer=transformer,
        scheduler=DDPMScheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
        text_encoder_2=t5(),
        tokenizer_2=tokenizer(256),
    )
