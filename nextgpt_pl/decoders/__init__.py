"""Frozen decoders: they embed captions and generate media from caption embeddings, or speak words."""

from nextgpt_pl.decoders.audioldm import AudioLDMDecoder
from nextgpt_pl.decoders.base import Decoder, PrecomputedEmbeddings
from nextgpt_pl.decoders.diffusion import DiffusionDecoder
from nextgpt_pl.decoders.piper import PiperDecoder
from nextgpt_pl.decoders.prompts import PromptDecoder, StableAudioDecoder
from nextgpt_pl.decoders.speech import SpeechDecoder
from nextgpt_pl.decoders.speech_models import SpeechT5Decoder, VitsDecoder
from nextgpt_pl.decoders.words import WordsDecoder

__all__ = [
    "AudioLDMDecoder",
    "Decoder",
    "DiffusionDecoder",
    "PiperDecoder",
    "PrecomputedEmbeddings",
    "PromptDecoder",
    "SpeechDecoder",
    "SpeechT5Decoder",
    "StableAudioDecoder",
    "VitsDecoder",
    "WordsDecoder",
]
