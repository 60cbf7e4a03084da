from random import Random

import numpy as np
import torch

from nextgpt_pl.pocket.pretrain import audio
from nextgpt_pl.pocket.pretrain.captions import pooled_code
from nextgpt_pl.pocket.pretrain.sounds import draw_wider, is_wider, mixed_sounds
from nextgpt_pl.pocket.render import WIDER, render
from nextgpt_pl.pocket.world import PATTERNS, PITCHES, TIMBRES, AudioScene, is_heldout


class _Words(torch.nn.Module):
    """Stands for a text encoder: one constant for any caption."""

    def forward(self, input_ids, attention_mask):
        return type("Output", (), {"text_embeds": torch.ones(len(input_ids), audio.TEXT_WIDTH)})


class _Tokenizer:
    def __call__(self, captions, **_):
        found = type("Encoded", (), {"to": lambda self, _: self})()
        found.input_ids = found.attention_mask = torch.zeros(len(captions), 4, dtype=torch.long)
        return found


def _task():
    encoder = _Words()
    encoder.weight = torch.nn.Parameter(torch.zeros(1))
    return audio.AudioDiffusion(torch.nn.Linear(1, 1), encoder, _Tokenizer(), steps=1, lr=1.0, seed=0)


def test_wider_sounds_are_new_and_never_held_out_ones():
    task = _task()
    scenes = [task.training_scene(i) for i in range(400)]
    wider = [is_wider(s) for s in scenes]
    assert 0.5 < np.mean(wider) < 0.7
    known = {"timbre": TIMBRES, "pitch": tuple(PITCHES), "pattern": PATTERNS}
    for scene, new in zip(scenes, wider, strict=True):
        assert new == any(value in WIDER[name] for name, value in vars(scene).items())
        if not new:
            assert all(value in known[name] for name, value in vars(scene).items())
            assert not is_heldout(scene)


def test_every_wider_sound_differs_from_the_others():
    base = AudioScene("sine", "medium", "steady")
    changes = [{}, *({name: value} for name, values in WIDER.items() for value in values)]
    sounds = [render(AudioScene(**(vars(base) | change)), Random(0)) for change in changes]
    for i, first in enumerate(sounds):
        for second in sounds[:i]:
            assert np.abs(first - second).max() > 0.05


def test_wider_sounds_are_told_by_their_codes():
    task = _task()
    scene = AudioScene("organ", "medium", "steady")
    found = task.conditions([scene] * 200, Random(0))
    code = pooled_code(scene, audio.TEXT_WIDTH)
    told = (found - code).norm(dim=1) < 1e-5
    assert 0.6 < told.float().mean() < 0.85  # of the rest a tenth is told nothing, and a fifth a part


def test_mixed_sounds_are_the_worlds_and_wider_ones():
    found = mixed_sounds(Random(0), 5)
    assert found.shape == (5, 32_000)
    assert torch.isfinite(found).all()
    assert all(is_wider(draw_wider(Random(i))) for i in range(50))
