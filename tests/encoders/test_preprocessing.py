import numpy as np
import pytest
import torch

from nextgpt_pl.encoders import preprocessing


def test_filter_banks_equal_kaldis(golden_folder):
    golden = np.load(golden_folder / "fbank.npz")
    waves = [golden[k] for k in golden.files if golden[k].ndim == 1]
    banks = [golden[k] for k in golden.files if golden[k].ndim == 2]
    assert len(waves) == len(banks) == 4
    for wave, bank in zip(waves, banks, strict=True):
        ours = preprocessing.fbank(torch.from_numpy(wave).float())
        assert ours.shape == (38, 128)
        # A Fourier transform rounds all amplitudes of a frame by about the same, some 1e-7 of its loudest: a band that
        # is 1e-5 of the loudest in amplitude has 1% of noise in its log energy, another on each kind of processor.
        rounding = 2 * np.finfo(np.float32).eps * np.exp((bank.max(axis=1, keepdims=True) - bank) / 2)
        assert (np.abs(ours.numpy() - bank) <= 4e-4 + rounding).all()
        assert np.median(rounding) < 1e-2, "a bound that would let everything pass"


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, 48_000])
def test_resampling_keeps_a_tone(rate):
    t = torch.arange(rate) / rate
    ours = preprocessing.resample(torch.sin(2 * torch.pi * 440 * t), rate)
    assert len(ours) == 16_000
    expected = torch.sin(2 * torch.pi * 440 * torch.arange(16_000) / 16_000)
    assert (ours - expected)[200:-200].abs().max() < 5e-3


def test_pictures_are_cut_in_the_middle():
    array = np.zeros((64, 128, 3), np.uint8)
    array[:, 32:96] = 255
    assert preprocessing.picture(array, 64).min() > 1.9


def test_shapes_of_clips():
    frames = np.zeros((8, 64, 64, 3), np.uint8)
    assert preprocessing.video_clips(frames, 64, 4).shape == (4, 3, 2, 64, 64)
    assert preprocessing.audio_clips(np.random.rand(48_000), 16_000, 3, 2.0, 128, 204).shape == (3, 1, 128, 204)
    assert preprocessing.audio_clips(np.random.rand(5_000), 16_000, 1, 2.0, 64, 200).shape == (1, 1, 64, 200)
