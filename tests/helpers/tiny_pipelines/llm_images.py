"""Tiny random pipelines of images whose text encoder is an LLM."""

from tiny_pipelines.parts import clip, flow, flow_vae, language_model, qwen_vl, t5, tokenizer, vae, wan_vae


def sana():
    """Gemma 2 behind an instruction."""
    from diffusers import AutoencoderDC, SanaPipeline, SanaTransformer2DModel

    transformer = SanaTransformer2DModel(
        in_channels=4,
        out_channels=4,
        num_attention_heads=2,
        attention_head_dim=8,
        num_layers=1,
        num_cross_attention_heads=2,
        cross_attention_head_dim=8,
        cross_attention_dim=16,
        caption_channels=16,
        sample_size=8,
    )
    blocks = {"encoder_block_types": ("ResBlock",) * 2, "decoder_block_types": ("ResBlock",) * 2}
    layers = {"encoder_layers_per_block": (1, 1), "decoder_layers_per_block": (1, 1)}
    autoencoder = AutoencoderDC(
        latent_channels=4,
        attention_head_dim=2,
        encoder_block_out_channels=(8, 8),
        decoder_block_out_channels=(8, 8),
        encoder_qkv_multiscales=((), ()),
        decoder_qkv_multiscales=((), ()),
        scaling_factor=0.4,
        **blocks,
        **layers,
    )
    return SanaPipeline(tokenizer(), language_model("Gemma2"), autoencoder, transformer, flow())


def qwen_image():
    """Qwen2.5-VL, as many states as the caption has tokens."""
    from diffusers import QwenImagePipeline, QwenImageTransformer2DModel

    transformer = QwenImageTransformer2DModel(
        in_channels=16,
        out_channels=4,
        num_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=16,
        axes_dims_rope=(4, 6, 6),
    )
    return QwenImagePipeline(flow(), wan_vae(qwen=True), qwen_vl(), tokenizer(1024), transformer)


def cogview_4():
    """GLM, as many states as the caption has tokens, up to a multiple of 16."""
    from diffusers import CogView4Pipeline, CogView4Transformer2DModel

    transformer = CogView4Transformer2DModel(
        in_channels=4,
        out_channels=4,
        num_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        text_embed_dim=16,
        time_embed_dim=8,
        condition_dim=4,
        sample_size=8,
        rope_axes_dim=(256, 256),
    )
    padded_left = tokenizer(1024, padding_side="left")
    return CogView4Pipeline(padded_left, language_model("Glm"), vae(), transformer, flow())


def lumina_2():
    """Gemma 2 behind a system prompt."""
    from diffusers import Lumina2Pipeline, Lumina2Transformer2DModel

    transformer = Lumina2Transformer2DModel(
        sample_size=8,
        in_channels=4,
        hidden_size=24,
        num_layers=1,
        num_refiner_layers=1,
        num_attention_heads=2,
        num_kv_heads=1,
        multiple_of=2,
        axes_dim_rope=(4, 4, 4),
        axes_lens=(300, 32, 32),
        cap_feat_dim=16,
    )
    return Lumina2Pipeline(transformer, flow(), flow_vae(), language_model("Gemma2"), tokenizer(256))


def hidream_image():
    """Two CLIPs' pooled vectors, T5, and all layers of Llama."""
    from diffusers import HiDreamImagePipeline, HiDreamImageTransformer2DModel

    transformer = HiDreamImageTransformer2DModel(
        patch_size=2,
        in_channels=4,
        out_channels=4,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=8,
        num_attention_heads=4,
        caption_channels=[32, 16],
        text_emb_dim=20,
        num_routed_experts=4,
        num_activated_experts=2,
        axes_dims_rope=(4, 2, 2),
        max_resolution=(32, 32),
        llama_layers=(0, 1),
        force_inference_output=True,
    )
    return HiDreamImagePipeline(
        scheduler=flow(),
        vae=flow_vae(),
        text_encoder=clip(8, projection=8),
        tokenizer=tokenizer(),
        text_encoder_2=clip(12, projection=12),
        tokenizer_2=tokenizer(),
        text_encoder_3=t5(),
        tokenizer_3=tokenizer(),
        text_encoder_4=language_model("Llama", head=True),
        tokenizer_4=tokenizer(),
        transformer=transformer,
    )


def z_image():
    """Qwen 3, a list of states."""
    from diffusers import ZImagePipeline, ZImageTransformer2DModel

    transformer = ZImageTransformer2DModel(
        in_channels=4,
        dim=32,
        n_layers=1,
        n_refiner_layers=1,
        n_heads=2,
        n_kv_heads=2,
        cap_feat_dim=16,
        axes_dims=[8, 4, 4],
        axes_lens=[256, 32, 32],
    )
    return ZImagePipeline(flow(), flow_vae(), language_model("Qwen3"), tokenizer(512), transformer)
