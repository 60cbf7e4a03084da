"""Frozen diffusion decoders: embed captions, and generate media from caption embeddings."""

from nextgpt_pl.decoders.audioldm import AudioLDMDecoder
from nextgpt_pl.decoders.base import Decoder, PrecomputedEmbeddings
from nextgpt_pl.decoders.diffusion import DiffusionDecoder
from nextgpt_pl.decoders.prompts import PromptDecoder, StableAudioDecoder

__all__ = [
    "AudioLDMDecoder",
    "Decoder",
    "DiffusionDecoder",
    "PrecomputedEmbeddings",
    "PromptDecoder",
    "StableAudioDecoder",
]
