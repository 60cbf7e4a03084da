from itertools import product
from random import Random

import numpy as np
import pytest
import torch

from nextgpt_pl.pocket.mel import compressed_mel
from nextgpt_pl.pocket.pretrain import audio
from nextgpt_pl.pocket.pretrain.captions import code, pooled_code
from nextgpt_pl.pocket.pretrain.sounds import draw_between, draw_near, draw_wider, is_wider, mixed_sounds, nearest_named
from nextgpt_pl.pocket.world.render import WIDER, between, parts_of_value, render
from nextgpt_pl.pocket.world.scenes import PATTERNS, PITCHES, TIMBRES, AudioScene, is_heldout


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
    return audio.AudioDiffusion(torch.nn.Linear(1, 1), encoder, _Tokenizer(), steps=1, seed=0)


def _assert_none_is_near_a_held_out_one(scenes):
    for nearest in map(nearest_named, scenes):
        assert is_wider(nearest) or not is_heldout(nearest)


def test_training_sounds_are_the_worlds_or_wider_and_never_near_a_held_out_one():
    task = _task()
    scenes = [task.training_scene(i) for i in range(400)]
    assert 0.65 < np.mean([is_wider(s) for s in scenes]) < 0.85
    _assert_none_is_near_a_held_out_one(scenes)


def test_attributes_between_two_are_of_named_ones_of_their_kind():
    known = {"timbre": TIMBRES, "pitch": tuple(PITCHES), "pattern": PATTERNS}
    rng, mixed = Random(0), 0
    for scene in (draw_between(rng) for _ in range(300)):
        for name, value in vars(scene).items():
            parts = parts_of_value(value)
            assert all(named in (*known[name], *WIDER[name]) for named, _ in parts)
            assert sum(share for _, share in parts) == pytest.approx(1)
            mixed += len(parts) > 1
    assert 250 < mixed < 650


def test_all_pairs_of_the_worlds_attributes_are_heard_around_the_third_of_held_out_sounds_too():
    rng, known = Random(0), (TIMBRES, tuple(PITCHES), PATTERNS)
    scenes = [draw_near(rng) for _ in range(3_000)]
    _assert_none_is_near_a_held_out_one(scenes)
    around = {tuple(value if "~" not in value else None for value in vars(s).values()) for s in scenes}
    assert around == {(*c[:i], None, *c[i + 1 :]) for c in product(*known) for i in range(3)}
    toward = {v.split("~")[0] for s in scenes if (s.timbre, s.pattern) == ("bell", "rising") for v in (s.pitch,)}
    assert is_heldout(AudioScene("bell", "medium", "rising"))
    assert "medium" in toward


def _far(one: AudioScene, other: AudioScene) -> float:
    return float(np.sqrt(np.square(_spectrum(one) - _spectrum(other)).mean()))


def _spectrum(scene: AudioScene) -> np.ndarray:
    return compressed_mel(torch.from_numpy(render(scene, Random(0)))[None])[0].numpy()


@pytest.mark.parametrize(
    ("name", "one", "other"),
    [
        ("timbre", "sine", "pluck"),
        ("pitch", "medium", "high"),
        ("pattern", "tremolo", "steady"),
        ("pattern", "rising", "steady"),
    ],
)
def test_a_sound_between_two_lies_nearer_to_the_one_of_which_it_has_more(name, one, other):
    base = vars(AudioScene("sine", "medium", "steady"))
    first, second = (AudioScene(**(base | {name: value})) for value in (one, other))
    near, half = (AudioScene(**(base | {name: between(one, other, share)})) for share in (0.1, 0.5))
    assert _far(near, first) < _far(half, first) < _far(second, first)
    codes = [
        code(f"{name} {value}", (128,)) for value in (one, between(one, other, 0.1), between(one, other, 0.5), other)
    ]
    distances = [float((c - codes[0]).norm()) for c in codes]
    assert distances == sorted(distances)


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
