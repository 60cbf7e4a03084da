import struct

import numpy as np
import pytest
import soundfile
import torch
from sound_files import write_sound

from nextgpt_pl.errors import UserError
from nextgpt_pl.media import sound
from nextgpt_pl.media.audio import resample


def _six_channels(count=4000):
    rng = np.random.default_rng(0)
    return (rng.uniform(-0.9, 0.9, (count, 6)) * 32767).round().astype(np.int16)


@pytest.mark.parametrize("name", ["a.wav", "a.mkv", "a.flac"])
def test_surround_is_mixed_by_one_rule_in_all_containers(tmp_path, name):
    samples = _six_channels()
    codec = "flac" if name == "a.flac" else "pcm_s16le"
    read, rate = sound.load_audio(write_sound(tmp_path / name, samples, "5.1", codec))
    assert rate == 16_000
    weights = np.array([0.5**0.5, 0.5**0.5, 1, 0, 0.5, 0.5])
    assert np.abs(read - samples / 32768 @ (weights / weights.sum())).max() < 1e-6


@pytest.mark.parametrize("name", ["a.wav", "a.mkv"])
def test_stereo_is_the_mean_of_its_channels(tmp_path, name):
    samples = np.ascontiguousarray(_six_channels()[:, :2])
    read, _ = sound.load_audio(write_sound(tmp_path / name, samples, "stereo"))
    assert np.abs(read - samples.mean(1) / 32768).max() < 1e-6


def test_channels_of_unknown_position_are_averaged(tmp_path):
    samples = _six_channels()[:, :3]
    soundfile.write(tmp_path / "a.wav", samples, 16_000)
    read, _ = sound.load_audio(tmp_path / "a.wav")
    assert np.abs(read - samples.mean(1) / 32768).max() < 1e-6
    assert sound.channel_weights(["LFE"]).tolist() == [1]


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
def test_surround_has_the_scale_of_its_format(tmp_path, subtype):
    samples = _six_channels()[:, :4] / 32768
    soundfile.write(tmp_path / "a.wav", samples, 16_000, subtype=subtype)
    tolerance = 1e-2 if subtype == "PCM_U8" else 1e-6
    assert np.abs(sound.load_audio(tmp_path / "a.wav")[0] - samples.mean(1)).max() < tolerance


@pytest.mark.parametrize("rate", [2**31 - 1, 0])
def test_impossible_sample_rates_are_refused(tmp_path, rate):
    path = tmp_path / "a.wav"
    soundfile.write(path, np.zeros(800, np.float32), 16_000)
    data = bytearray(path.read_bytes())
    data[24:28] = struct.pack("<I", rate)
    path.write_bytes(data)
    with pytest.raises(UserError, match=rf"a\.wav: (a sample rate of {rate} hertz|not a readable sound)"):
        sound.load_audio(path)


def test_long_surround_is_refused(tmp_path):
    path = write_sound(tmp_path / "a.mkv", _six_channels(20_000), "5.1")
    with pytest.raises(UserError, match="longer than 1 seconds"):
        sound.load_audio(path, max_seconds=1)


@pytest.mark.parametrize("rate", [16_001, 22_254, 767_999])
def test_rates_without_a_common_divisor_are_resampled_in_bounded_memory(rate):
    """A table of all phases would need gigabytes."""
    time = torch.arange(rate // 4, dtype=torch.float64) / rate
    ours = resample(torch.sin(2 * torch.pi * 440 * time).float(), rate)
    expected = torch.sin(2 * torch.pi * 440 * torch.arange(len(ours), dtype=torch.float64) / 16_000)
    assert len(ours) == -(-16_000 * len(time) // rate)
    assert (ours - expected)[200:-200].abs().max() < 2e-3
