"""Newer pipelines by the same interface, on tiny random instances saved to folders."""

import numpy as np
import pytest
import torch

from nextgpt_pl.decoders import PromptDecoder, StableAudioDecoder
from nextgpt_pl.decoders.layout import TextLayout
from nextgpt_pl.errors import UserError
from nextgpt_pl.utils.paths import resolve

LENGTH = 12
CAPTIONS = ["a small red circle", "a blue star on the left"]


def _tokenizer(length=LENGTH):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(resolve("pocket:image") + "/tokenizer", model_max_length=length)


def _t5(width):
    from transformers import T5Config, T5EncoderModel

    config = T5Config(vocab_size=2000, d_model=width, d_kv=4, d_ff=16, num_layers=1, num_heads=2)
    return T5EncoderModel(config).eval()


def _clip(width, projection=None):
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    config = CLIPTextConfig(
        vocab_size=2000,
        hidden_size=width,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=LENGTH,
        projection_dim=projection or width,
        bos_token_id=1,
        eos_token_id=2,
    )
    return (CLIPTextModelWithProjection if projection else CLIPTextModel)(config).eval()


def _vae():
    from diffusers import AutoencoderKL

    blocks = {"down_block_types": ["DownEncoderBlock2D"] * 2, "up_block_types": ["UpDecoderBlock2D"] * 2}
    return AutoencoderKL(latent_channels=4, block_out_channels=[4, 4], norm_num_groups=2, **blocks)


def _pixart():
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
    return PixArtSigmaPipeline(_tokenizer(), _t5(32), _vae(), transformer, DDIMScheduler())


def _xl():
    from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel

    unet = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(4, 8),
        layers_per_block=1,
        norm_num_groups=2,
        attention_head_dim=2,
        cross_attention_dim=20,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        addition_embed_type="text_time",
        addition_time_embed_dim=4,
        projection_class_embeddings_input_dim=6 * 4 + 10,
    )
    tokenizers = {"tokenizer": _tokenizer(), "tokenizer_2": _tokenizer()}
    texts = {"text_encoder": _clip(8), "text_encoder_2": _clip(12, projection=10)}
    return StableDiffusionXLPipeline(
        vae=_vae(), unet=unet, scheduler=EulerDiscreteScheduler(), add_watermarker=False, **tokenizers, **texts
    )


def _cogvideox():
    from diffusers import (
        AutoencoderKLCogVideoX,
        CogVideoXDDIMScheduler,
        CogVideoXPipeline,
        CogVideoXTransformer3DModel,
    )

    transformer = CogVideoXTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=16,
        in_channels=4,
        out_channels=4,
        time_embed_dim=2,
        text_embed_dim=32,
        num_layers=1,
        sample_width=2,
        sample_height=2,
        sample_frames=9,
        max_text_seq_length=LENGTH,
    )
    vae = AutoencoderKLCogVideoX(
        down_block_types=("CogVideoXDownBlock3D",) * 4,
        up_block_types=("CogVideoXUpBlock3D",) * 4,
        block_out_channels=(8, 8, 8, 8),
        latent_channels=4,
        layers_per_block=1,
        norm_num_groups=2,
    )
    return CogVideoXPipeline(_tokenizer(), _t5(32), vae, transformer, CogVideoXDDIMScheduler())


def _stable_audio():
    from diffusers import (
        AutoencoderOobleck,
        EDMDPMSolverMultistepScheduler,
        StableAudioDiTModel,
        StableAudioPipeline,
        StableAudioProjectionModel,
    )

    transformer = StableAudioDiTModel(
        sample_size=4,
        in_channels=3,
        num_layers=1,
        attention_head_dim=4,
        num_key_value_attention_heads=2,
        out_channels=3,
        cross_attention_dim=4,
        time_proj_dim=8,
        global_states_input_dim=8,
        cross_attention_input_dim=4,
    )
    vae = AutoencoderOobleck(
        encoder_hidden_size=6,
        downsampling_ratios=[1, 2],
        decoder_channels=3,
        decoder_input_channels=3,
        channel_multiples=[2, 4],
        sampling_rate=4,
    )
    projection = StableAudioProjectionModel(text_encoder_dim=32, conditioning_dim=4, min_value=0, max_value=32)
    scheduler = EDMDPMSolverMultistepScheduler(sigma_data=1.0, prediction_type="v_prediction")
    return StableAudioPipeline(vae, _t5(32), projection, _tokenizer(), transformer, scheduler)


_PICTURE = {"num_inference_steps": 2, "guidance_scale": 2.0, "height": 16, "width": 16}
# how each is configured, and the shape of a packed embedding
CASES = {
    "PixArtSigmaPipeline": (
        _pixart,
        PromptDecoder,
        {**_PICTURE, "use_resolution_binning": False},
        (LENGTH, 33),
    ),
    "StableDiffusionXLPipeline": (_xl, PromptDecoder, _PICTURE, (LENGTH + 1, 20)),
    "CogVideoXPipeline": (_cogvideox, PromptDecoder, {**_PICTURE, "num_frames": 9}, (LENGTH, 32)),
    "StableAudioPipeline": (
        _stable_audio,
        StableAudioDecoder,
        {"num_inference_steps": 2, "guidance_scale": 2.0, "audio_end_in_s": 1.5},
        (LENGTH, 33),
    ),
}


@pytest.fixture(params=CASES, scope="module")
def case(request, tmp_path_factory):
    """Name, the pipeline itself, a decoder of its saved folder, sampling arguments and shape."""
    make, decoder_class, sampling, shape = CASES[request.param]
    folder = tmp_path_factory.mktemp(request.param)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        pipeline = make()
    pipeline.save_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    return request.param, pipeline, decoder_class(request.param, str(folder), sampling, max_length=LENGTH), shape


def test_the_layout_is_read_without_weights(case):
    name, _, decoder, shape = case
    fresh = type(decoder)(name, decoder.path, max_length=LENGTH)
    assert fresh.embedding_shape == fresh.projection_shape == shape
    assert not fresh.captions.loaded
    assert fresh._pipeline is None


def test_media_from_embeddings_are_those_from_the_caption(case):
    """The pipeline, asked with the text itself, gives the same as with what the decoder made of the text."""
    name, pipeline, decoder, shape = case
    embeddings = decoder.embed_captions(CAPTIONS)
    assert embeddings.shape == (2, *shape)
    ours = decoder.generate(embeddings[1:], seed=3)[0]
    lengths = {"max_sequence_length": LENGTH} if name in ("PixArtSigmaPipeline", "CogVideoXPipeline") else {}
    output = pipeline(
        CAPTIONS[1],
        negative_prompt="",
        generator=torch.Generator().manual_seed(3),
        output_type="np",
        **{**decoder.sampling, **lengths},
    )
    if name == "StableAudioPipeline":
        assert (ours.ndim, decoder.rate) == (1, 4.0)
        np.testing.assert_allclose(ours, np.asarray(output.audios[0]).mean(0).clip(-1, 1), atol=1e-4)
    else:
        theirs = (output.images if hasattr(output, "images") else output.frames)[0]
        assert ours.shape == theirs.shape
        assert np.abs(ours - theirs * 255).max() <= 1.5


def test_captions_differ_and_reach_the_media(case):
    _, _, decoder, _ = case
    embeddings = decoder.embed_captions(CAPTIONS)
    assert not torch.allclose(embeddings[0], embeddings[1])
    assert torch.equal(decoder.embed_captions(CAPTIONS[:1])[0], embeddings[0])


@pytest.mark.parametrize(
    "layout",
    [TextLayout(3, 5), TextLayout(3, 5, "attention_mask"), TextLayout(3, 5, None, 4), TextLayout(3, 4, "m", 7)],
)
def test_packing_loses_nothing(layout):
    states, mask = torch.randn(2, 3, layout.width), torch.tensor([[1, 1, 0], [1, 0, 0]])
    pooled = torch.randn(2, layout.pooled)
    packed = layout.pack(states, mask, pooled)
    assert packed.shape == (2, *layout.shape)
    found = layout.unpack(packed, "negative_")
    kept = states * mask.unsqueeze(-1) if layout.mask else states
    assert torch.equal(found.pop("negative_prompt_embeds"), kept)
    if layout.mask:
        assert torch.equal(found.pop(f"negative_{layout.mask}"), mask)
    if layout.pooled:
        assert torch.equal(found.pop("negative_pooled_prompt_embeds"), pooled)
    assert not found


def test_mistakes_are_named():
    with pytest.raises(UserError, match="max_length=0"):
        PromptDecoder("PixArtSigmaPipeline", "x", max_length=0)
    with pytest.raises(UserError, match="'DDPMPipeline' takes no prompt_embeds"):
        _ = PromptDecoder("DDPMPipeline", resolve("pocket:image")).layout
