"""Tiny random speaking models of the real classes, in folders."""

import json
from pathlib import Path

import numpy as np
import torch


def save_vits(folder: Path) -> Path:
    """VITS for small letters, in ``folder``."""
    from transformers import VitsConfig, VitsModel, VitsTokenizer

    letters = ["<pad>", *"abcdefghijklmnopqrstuvwxyz ", "<unk>"]
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = folder / "characters.json"
    vocabulary.write_text(json.dumps({letter: number for number, letter in enumerate(letters)}), encoding="utf-8")
    VitsTokenizer(vocabulary, phonemize=False).save_pretrained(folder)
    torch.manual_seed(0)
    config = VitsConfig(
        vocab_size=len(letters),
        hidden_size=16,
        num_hidden_layers=1,
        ffn_dim=16,
        flow_size=16,
        spectrogram_bins=9,
        upsample_initial_channel=16,
        upsample_rates=[4, 4],
        upsample_kernel_sizes=[8, 8],
        resblock_kernel_sizes=[3],
        resblock_dilation_sizes=[[1, 3]],
        duration_predictor_filter_channels=16,
        prior_encoder_num_flows=1,
        prior_encoder_num_wavenet_layers=1,
        posterior_encoder_num_wavenet_layers=1,
        use_stochastic_duration_prediction=False,
        sampling_rate=2000,
    )
    VitsModel(config).save_pretrained(folder)
    return folder


def save_speecht5(folder: Path) -> tuple[Path, Path, Path]:
    """SpeechT5, its vocoder and a speaker's embedding: two folders and a file in ``folder``."""
    import sentencepiece
    from transformers import (
        SpeechT5Config,
        SpeechT5ForTextToSpeech,
        SpeechT5HifiGan,
        SpeechT5HifiGanConfig,
        SpeechT5Tokenizer,
    )

    folder.mkdir(parents=True, exist_ok=True)
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["the quick brown fox jumps over the lazy dog"]),
        model_prefix=str(folder / "spm"),
        vocab_size=34,
        model_type="char",
        hard_vocab_limit=False,
        minloglevel=2,
    )
    SpeechT5Tokenizer(str(folder / "spm.model")).save_pretrained(folder / "model")
    torch.manual_seed(0)
    sizes = {f"{part}_{what}": n for part in ("encoder", "decoder") for what, n in (("layers", 1), ("ffn_dim", 16))}
    config = SpeechT5Config(
        vocab_size=81,
        hidden_size=16,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        num_mel_bins=8,
        speech_decoder_prenet_units=8,
        speech_decoder_postnet_units=8,
        speaker_embedding_dim=6,
        conv_dim=[8],
        conv_stride=[5],
        conv_kernel=[10],
        num_conv_pos_embeddings=4,
        num_conv_pos_embedding_groups=2,
        **sizes,
    )
    SpeechT5ForTextToSpeech(config).save_pretrained(folder / "model")
    vocoder = SpeechT5HifiGanConfig(
        model_in_dim=8,
        sampling_rate=2000,
        upsample_initial_channel=8,
        upsample_rates=[4, 4],
        upsample_kernel_sizes=[8, 8],
        resblock_kernel_sizes=[3],
        resblock_dilation_sizes=[[1, 3]],
    )
    SpeechT5HifiGan(vocoder).save_pretrained(folder / "vocoder")
    np.save(folder / "speaker.npy", np.linspace(-1, 1, 6, dtype=np.float32))
    return folder / "model", folder / "vocoder", folder / "speaker.npy"
