from random import Random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from transformers import SpeechT5HifiGan

from nextgpt_pl.modality import Modality
from nextgpt_pl.pocket.judges import media as judge
from nextgpt_pl.pocket.mel import HOP, compressed_mel
from nextgpt_pl.pocket.pretrain import sounds
from nextgpt_pl.pocket.pretrain import vocoder as voc
from nextgpt_pl.pocket.world import scenes as world
from nextgpt_pl.pocket.world.render import render
from nextgpt_pl.pocket.world.scenes import SAMPLE_RATE
from nextgpt_pl.utils.paths import pocket_weights


@pytest.fixture(scope="module")
def vocoder():
    return voc.build_vocoder().eval()


@pytest.fixture(scope="module")
def vae():
    return AutoencoderKL.from_pretrained(pocket_weights() / "audio" / "vae", dtype=torch.float32).eval()


def _synthesised(vocoder, levels):
    """The generator's fixed layers only, ``(B, T, 249)`` levels to ``(B, T * HOP)`` samples."""
    hidden = F.pad(levels, (0, voc._CHANNELS - levels.shape[-1])).transpose(1, 2)
    for layer, block in zip(vocoder.upsampler[1:], vocoder.resblocks[1:], strict=True):
        hidden = block(layer(F.leaky_relu(hidden, voc._SLOPE)))
    return vocoder.conv_post(F.leaky_relu(hidden)).tanh()[:, 0]


def _right_of_every_sound(seed, change):
    """Whether the judge still knows each of the world's sounds after ``change``."""
    rng = Random(seed)
    scenes = [*world.audio_scenes("train"), *world.audio_scenes("heldout")]
    made = change(torch.from_numpy(np.stack([render(scene, rng) for scene in scenes])))
    return {s: judge.judge(w.numpy(), Modality.AUDIO) == s for s, w in zip(scenes, made, strict=True)}


@pytest.mark.parametrize("frequency", [192.0, 480.0, 1152.0, 6400.0])
def test_a_level_sounds_as_one_tone_of_its_frequency_and_amplitude(vocoder, frequency):
    levels = torch.zeros(1, 32, len(voc.frequencies()))
    levels[..., int((voc.frequencies() - frequency).abs().argmin())] = 0.2 / voc._UNIT
    with torch.no_grad():
        samples = _synthesised(vocoder, levels)[0, 4 * HOP : -4 * HOP]
    window = torch.hann_window(len(samples))
    power = torch.fft.rfft(samples * window).abs().square()
    peak = int(power.argmax())
    assert peak * SAMPLE_RATE / len(samples) == pytest.approx(frequency, abs=SAMPLE_RATE / len(samples))
    assert power[peak - 3 : peak + 4].sum() / power.sum() > 0.999
    assert samples.abs().max() == pytest.approx(0.2, rel=0.05)


@pytest.mark.slow
def test_true_levels_are_enough_for_the_judge(vocoder):
    with torch.no_grad():
        right = _right_of_every_sound("levels", lambda waves: _synthesised(vocoder, voc.levels(waves)))
    assert sum(right.values()) >= 0.95 * len(right)


def test_only_the_reading_layers_train(vocoder, vae):
    task = voc.LevelReading(vocoder, vae, steps=1, seed=0)
    trains = {name.split(".")[0] for name, p in task.vocoder.named_parameters() if p.requires_grad}
    assert trains == {"conv_pre", "upsampler", "resblocks"}
    assert not task.vocoder.upsampler[1].weight.requires_grad
    assert not any(name.startswith("_vae") for name in task.state_dict())


def test_half_of_the_spectrograms_have_been_through_the_autoencoder(vocoder, vae):
    task = voc.LevelReading(vocoder, vae, steps=1, seed=0)
    task.pool = 4 * task.items
    task.steps = 2
    task._fill_pool()
    true = torch.cat([voc.compressed_mel(w) for w in _pool_waves(task)])
    same = (task.mels == true).flatten(1).all(1).view(4, task.items)
    assert same.all(1).tolist() == [True, True, False, False]
    assert not same[2:].any()
    assert (task.mels - true).abs().mean() < 0.05


def _pool_waves(task):
    rng = Random(f"{task.seed}/levels")
    return [voc._SOURCES[i](rng, task.items) for i in range(4)]


def test_half_of_the_bells_are_bells_and_none_is_held_out(monkeypatch):
    monkeypatch.setattr(sounds, "_rendered", lambda scenes, rng: scenes)
    scenes = sounds.bells(Random(0), 400)
    assert 0.4 < np.mean([s.timbre == "bell" for s in scenes]) < 0.6
    assert {s.timbre for s in scenes} == set(world.TIMBRES)
    assert not any(map(world.is_heldout, scenes))


def test_a_partial_that_neighbours_share_is_as_loud_by_power_and_fainter_by_amplitude():
    one, power, amplitude = torch.zeros(3, 1, 1, 40)
    one[..., 20] = 1.0
    power[..., 19:22] = 3**-0.5
    amplitude[..., 19:22] = 1 / 3
    loud = [float(voc._loudness(x)[..., 20]) for x in (one, power, amplitude)]
    assert loud[1] == pytest.approx(loud[0], rel=1e-3)
    assert loud[2] < 0.6 * loud[0]


@pytest.mark.slow
def test_the_shipped_autoencoder_and_vocoder_give_back_the_worlds_sounds(vae):
    shipped = SpeechT5HifiGan.from_pretrained(pocket_weights() / "audio" / "vocoder", dtype=torch.float32).eval()

    def there_and_back(waves):
        latents = vae.encode(compressed_mel(waves).unsqueeze(1)).latent_dist.mode()
        return shipped(vae.decode(latents).sample[:, 0])

    with torch.no_grad():
        right = _right_of_every_sound("given back", there_and_back)
    assert sum(right.values()) >= 0.97 * len(right), [scene for scene, found in right.items() if not found]


def test_learning_to_read_lowers_the_error(vae):
    torch.manual_seed(0)
    task = voc.LevelReading(voc.build_vocoder(), vae, steps=30, seed=0)
    task.pool = 48
    optimizer = torch.optim.Adam([p for p in task.parameters() if p.requires_grad], 1e-3)
    losses = []
    for step in range(30):
        loss = task.loss(Random(step), torch.Generator())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-5:]) < 0.7 * sum(losses[:5])
