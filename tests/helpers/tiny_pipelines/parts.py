"""Tiny random text encoders, tokenizers and autoencoders that several pipelines share."""

from typing import Any

from nextgpt_pl.utils.paths import resolve

#: tokens of a caption
LENGTH = 12
_VOCABULARY = 2000
_TEMPLATE = (
    "{% for m in messages %}<|{{ m.role }}|>{% if m.content is string %}{{ m.content }}{% else %}"
    "{% for part in m.content %}{{ part.text }}{% endfor %}{% endif %}{% endfor %}"
)


def tokenizer(length: int = LENGTH, **options: Any):
    """The pocket tokenizer of captions, with a chat template."""
    from transformers import AutoTokenizer

    found = AutoTokenizer.from_pretrained(resolve("pocket:image") + "/tokenizer", model_max_length=length, **options)
    found.chat_template = _TEMPLATE
    return found


def t5(width: int = 32, multilingual: bool = False):
    """The encoder of T5 or UMT5."""
    import transformers as t

    config_class, encoder_class = (t.UMT5Config, t.UMT5EncoderModel) if multilingual else (t.T5Config, t.T5EncoderModel)
    config = config_class(vocab_size=_VOCABULARY, d_model=width, d_kv=4, d_ff=16, num_layers=1, num_heads=2)
    return encoder_class(config).eval()


def clip(width: int, projection: int | None = None):
    """CLIP's text encoder, with a projection if its width is given."""
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    config = CLIPTextConfig(
        vocab_size=_VOCABULARY,
        hidden_size=width,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=77,
        projection_dim=projection or width,
        bos_token_id=1,
        eos_token_id=2,
    )
    return (CLIPTextModelWithProjection if projection else CLIPTextModel)(config).eval()


def language_model(kind: str, width: int = 16, layers: int = 2, **options: Any):
    """A text encoder that is an LLM without its head: ``Llama``, ``Gemma2``, ``Glm``, ``Qwen3``, ...

    ``head`` as an option keeps the head.
    """
    import transformers

    suffix = "ForCausalLM" if options.pop("head", False) else "Model"
    config = getattr(transformers, f"{kind}Config")(**text_sizes(width, layers), **options)
    return getattr(transformers, f"{kind}{suffix}")(config).eval()


def text_sizes(width: int = 16, layers: int = 2) -> dict[str, Any]:
    """Sizes of an LLM."""
    return {
        "vocab_size": _VOCABULARY,
        "hidden_size": width,
        "intermediate_size": 16,
        "num_hidden_layers": layers,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 8,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "max_position_embeddings": 1024,
    }


def qwen_vl(width: int = 16):
    """Qwen2.5-VL with a vision tower, which text does not reach."""
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    sizes = {k: v for k, v in text_sizes(width).items() if k != "head_dim"}
    rope = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 10000.0}
    vision = {"depth": 1, "hidden_size": 8, "intermediate_size": 8, "num_heads": 2, "out_hidden_size": width}
    config = Qwen2_5_VLConfig(text_config={**sizes, "rope_parameters": rope}, vision_config=vision)
    return Qwen2_5_VLForConditionalGeneration(config).eval()


def mistral_3(width: int = 16, layers: int = 3):
    """Mistral 3 with a vision tower, which text does not reach."""
    from transformers import Mistral3Config, Mistral3ForConditionalGeneration

    vision = {"model_type": "pixtral", "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1}
    vision |= {"num_attention_heads": 2, "image_size": 16, "patch_size": 4, "head_dim": 4}
    text = {"model_type": "mistral", **text_sizes(width, layers)}
    config = Mistral3Config(vision_config=vision, text_config=text)
    return Mistral3ForConditionalGeneration(config).eval()


def gemma_3(width: int = 16):
    """Gemma 3 with a vision tower, which text does not reach."""
    from transformers import Gemma3Config, Gemma3ForConditionalGeneration

    vision = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision |= {"image_size": 16, "patch_size": 4}
    config = Gemma3Config(text_config=text_sizes(width), vision_config=vision, mm_tokens_per_image=4)
    return Gemma3ForConditionalGeneration(config).eval()


def vae(channels: int = 4, **options: Any):
    """The autoencoder of images, at half size."""
    from diffusers import AutoencoderKL

    blocks = {"down_block_types": ["DownEncoderBlock2D"] * 2, "up_block_types": ["UpDecoderBlock2D"] * 2}
    return AutoencoderKL(latent_channels=channels, block_out_channels=[4, 4], norm_num_groups=2, **blocks, **options)


def flow_vae(channels: int = 4):
    """The autoencoder of Flux and Stable Diffusion 3, without quantisation layers."""
    return vae(channels, use_quant_conv=False, use_post_quant_conv=False, shift_factor=0.1, scaling_factor=1.5)


def wan_vae(qwen: bool = False):
    """The autoencoder of Wan's videos, or of Qwen-Image, which has its classes."""
    from diffusers import AutoencoderKLQwenImage, AutoencoderKLWan

    normal = {"latents_mean": [0.0] * 4, "latents_std": [1.0] * 4}
    sizes = {"base_dim": 6, "z_dim": 4, "dim_mult": [1, 1, 1, 1], "num_res_blocks": 1}
    vae_class = AutoencoderKLQwenImage if qwen else AutoencoderKLWan
    return vae_class(**sizes, temperal_downsample=[False, True, True], **normal)


def flow():
    """The scheduler of flow matching."""
    from diffusers import FlowMatchEulerDiscreteScheduler

    return FlowMatchEulerDiscreteScheduler()
