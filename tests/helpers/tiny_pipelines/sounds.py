"""Tiny random pipelines of sounds."""

from tiny_pipelines.parts import language_model, t5, text_sizes, tokenizer, vae

_WORDS = ["a", "small", "red", "circle", "blue", "star", "on", "the", "left", "loud", "bell", "low"]


def _oobleck(channels: int, rate: int, audio_channels: int = 2):
    from diffusers import AutoencoderOobleck

    return AutoencoderOobleck(
        encoder_hidden_size=6,
        downsampling_ratios=[1, 2],
        decoder_channels=3,
        decoder_input_channels=channels,
        channel_multiples=[2, 4],
        sampling_rate=rate,
        audio_channels=audio_channels,
    )


def stable_audio():
    """T5 states, which the pipeline projects, and the duration."""
    from diffusers import (
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
    projection = StableAudioProjectionModel(text_encoder_dim=32, conditioning_dim=4, min_value=0, max_value=32)
    scheduler = EDMDPMSolverMultistepScheduler(sigma_data=1.0, prediction_type="v_prediction")
    return StableAudioPipeline(_oobleck(3, 4), t5(), projection, tokenizer(), transformer, scheduler)


def _clap(width: int):
    from transformers import ClapAudioConfig, ClapConfig, ClapModel, ClapTextConfig

    text = ClapTextConfig(
        vocab_size=300,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=8,
        max_position_embeddings=80,
        projection_dim=width,
    )
    audio = ClapAudioConfig(
        spec_size=64,
        num_mel_bins=16,
        window_size=4,
        patch_embeds_hidden_size=8,
        depths=[1, 1],
        num_attention_heads=[1, 2],
        hidden_size=16,
        projection_dim=width,
    )
    config = ClapConfig(text_config=text.to_dict(), audio_config=audio.to_dict(), projection_dim=width)
    return ClapModel(config).eval()


def _roberta_tokenizer():
    from tokenizers import pre_tokenizers
    from transformers import RobertaTokenizer

    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    vocabulary = {token: i for i, token in enumerate([*special, *sorted(pre_tokenizers.ByteLevel.alphabet())])}
    return RobertaTokenizer(vocab=vocabulary, merges=[], model_max_length=77)


def _t5_tokenizer():
    from transformers import T5Tokenizer

    letters = sorted(set("".join(_WORDS)))
    pieces = ["<pad>", "</s>", "<unk>", *(f"▁{word}" for word in _WORDS), "▁", *letters]
    return T5Tokenizer(vocab=[(p, -float(i > 2)) for i, p in enumerate(pieces)], extra_ids=0, model_max_length=77)


def audioldm_2():
    """States of T5, and states that a GPT-2 generates from CLAP and T5."""
    from diffusers import (
        AudioLDM2Pipeline,
        AudioLDM2ProjectionModel,
        AudioLDM2UNet2DConditionModel,
        DDIMScheduler,
    )
    from transformers import ClapFeatureExtractor, GPT2Config, GPT2LMHeadModel, SpeechT5HifiGan, SpeechT5HifiGanConfig

    unet = AudioLDM2UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(8, 16),
        layers_per_block=1,
        norm_num_groups=4,
        attention_head_dim=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=((None, 16, 32), (None, 16, 32)),
    )
    gpt = GPT2Config(vocab_size=10, n_embd=16, n_layer=1, n_head=2, n_positions=200, bos_token_id=1, eos_token_id=2)
    gpt.max_new_tokens = 8
    vocoder = SpeechT5HifiGanConfig(
        model_in_dim=8,
        sampling_rate=16000,
        upsample_initial_channel=8,
        upsample_rates=[2, 2],
        upsample_kernel_sizes=[4, 4],
        resblock_kernel_sizes=[3],
        resblock_dilation_sizes=[[1, 3]],
        normalize_before=False,
        initializer_range=0.3,
    )
    return AudioLDM2Pipeline(
        vae=vae(in_channels=1, out_channels=1),
        text_encoder=_clap(12),
        text_encoder_2=t5(),
        projection_model=AudioLDM2ProjectionModel(text_encoder_dim=12, text_encoder_1_dim=32, langauge_model_dim=16),
        language_model=GPT2LMHeadModel(gpt).eval(),
        tokenizer=_roberta_tokenizer(),
        tokenizer_2=_t5_tokenizer(),
        feature_extractor=ClapFeatureExtractor(feature_size=16, sampling_rate=16000),
        unet=unet,
        scheduler=DDIMScheduler(),
        vocoder=SpeechT5HifiGan(vocoder).eval(),
    )


def ace_step():
    """Qwen 3's states of the caption, and its word embeddings of the lyrics."""
    from diffusers import AceStepPipeline, AceStepTransformer1DModel, FlowMatchEulerDiscreteScheduler
    from diffusers.pipelines.ace_step.modeling_ace_step import AceStepConditionEncoder

    sizes = {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8, "intermediate_size": 16}
    transformer = AceStepTransformer1DModel(
        hidden_size=16, num_hidden_layers=2, in_channels=12, audio_acoustic_hidden_dim=4, sliding_window=8, **sizes
    )
    conditions = AceStepConditionEncoder(
        hidden_size=16,
        text_hidden_dim=16,
        timbre_hidden_dim=4,
        num_lyric_encoder_hidden_layers=2,
        num_timbre_encoder_hidden_layers=2,
        sliding_window=8,
        **sizes,
    )
    return AceStepPipeline(
        vae=_oobleck(4, 50),
        text_encoder=language_model("Qwen3", text_sizes()["hidden_size"]),
        tokenizer=tokenizer(512),
        transformer=transformer,
        condition_encoder=conditions,
        scheduler=FlowMatchEulerDiscreteScheduler(num_train_timesteps=1, shift=1.0),
    )
