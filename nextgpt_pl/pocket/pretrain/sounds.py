"""Audio for pre-training: of the world, with attributes outside the world, and random additive sounds."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import numpy as np
import torch
from torch import Tensor

from nextgpt_pl.modality import Modality
from nextgpt_pl.pocket.world.render import WIDER, between, parts_of_value, pitches, render
from nextgpt_pl.pocket.world.scenes import (
    AUDIO_SECONDS,
    OPTIONS,
    SAMPLE_RATE,
    AudioScene,
    Scene,
    audio_scenes,
    draw_scene,
    is_heldout,
    pick,
)

_WORLD = {name: OPTIONS[name] for name in WIDER}


def is_wider(scene: Scene) -> bool:
    """Whether a scene is audio with an attribute outside the world."""
    return isinstance(scene, AudioScene) and any(v not in _WORLD[name] for name, v in vars(scene).items())


def draw_wider(rng: Random) -> AudioScene:
    """A sound with at least one attribute of :data:`~nextgpt_pl.pocket.world.render.WIDER`."""
    while True:
        scene = AudioScene(*(pick(rng, (*known, *WIDER[name])) for name, known in _WORLD.items()))
        if is_wider(scene):
            return scene


def nearest_named(scene: AudioScene) -> AudioScene:
    """The scene with each interpolated attribute value replaced by the nearer named value."""
    return AudioScene(*(max(parts_of_value(value), key=lambda part: part[1])[0] for value in vars(scene).values()))


def _interpolated(name: str, value: str, rng: Random) -> str:
    """Interpolate ``value`` with a neighbouring pitch, a steady pattern, or any other timbre."""
    if name == "pitch":
        place = pitches().index(value)
        others = [p for i, p in enumerate(pitches()) if abs(i - place) == 1]
    elif name == "pattern" and value != "steady":
        others = ["steady"]
    else:
        others = [v for v in (*_WORLD[name], *WIDER[name]) if v != value]
    return between(value, pick(rng, others), 0.1 + 0.8 * rng.random())


def _is_allowed(scene: AudioScene) -> bool:
    """Whether the nearest named scene is not held out."""
    nearest = nearest_named(scene)
    return is_wider(nearest) or not is_heldout(nearest)


def draw_between(rng: Random) -> AudioScene:
    """An audio scene with about half of its attributes interpolated.

    Pitches are interpolated between neighbours, patterns with the steady one, timbres between any two. Held-out
    combinations are thus interpolations of training data. Scenes whose nearest named scene is held out are excluded.
    """
    while True:
        named = [(name, pick(rng, (*known, *WIDER[name]))) for name, known in _WORLD.items()]
        scene = AudioScene(*(v if rng.random() < 0.5 else _interpolated(name, v, rng) for name, v in named))
        if is_wider(scene) and _is_allowed(scene):
            return scene


def draw_near(rng: Random) -> AudioScene:
    """An audio scene of the world with one interpolated attribute.

    :func:`draw_between` seldom has two named attributes. Here all pairs of named attributes occur with an interpolated
    third one; the neighbourhood of held-out scenes is covered up to half of the distance.
    """
    while True:
        scene = AudioScene(*(pick(rng, known) for known in _WORLD.values()))
        name = pick(rng, tuple(_WORLD))
        scene = replace(scene, **{name: _interpolated(name, getattr(scene, name), rng)})
        if _is_allowed(scene):
            return scene


def _rendered(scenes: list[Scene], rng: Random) -> Tensor:
    return torch.from_numpy(np.stack([render(scene, rng) for scene in scenes]))


def sounds(rng: Random, count: int) -> Tensor:
    """Rendered training sounds ``(count, 32000)``."""
    return _rendered([draw_scene(Modality.AUDIO, rng) for _ in range(count)], rng)


def mixed_sounds(rng: Random, count: int) -> Tensor:
    """Half training sounds, half with attributes outside the world, ``(count, 32000)``."""
    return torch.cat([sounds(rng, count - count // 2), _rendered([draw_wider(rng) for _ in range(count // 2)], rng)])


def bells(rng: Random, count: int) -> Tensor:
    """Rendered training sounds ``(count, 32000)``, of which half are bells."""
    known = list(audio_scenes("train"))
    groups = [[s for s in known if (s.timbre == "bell") is is_bell] for is_bell in (False, True)]
    return _rendered([pick(rng, groups[rng.random() < 0.5]) for _ in range(count)], rng)


def any_sounds(rng: Random, count: int) -> Tensor:
    """Random additive sounds ``(count, 32000)``: any pitch, partials, glide and envelope.

    The vocoder must generalise beyond the combinations of the training split.
    """
    t = np.arange(int(SAMPLE_RATE * AUDIO_SECONDS)) / SAMPLE_RATE
    return torch.from_numpy(np.stack([_any_sound(rng, t) for _ in range(count)]).astype(np.float32))


def _any_sound(rng: Random, t: np.ndarray) -> np.ndarray:
    pitch = 120.0 * 14.0 ** rng.random()
    octaves = rng.random() * 2.4 - 1.2 if rng.random() < 0.6 else 0.0
    phase = 2 * np.pi * np.cumsum(pitch * np.exp2(octaves * (t / AUDIO_SECONDS - 0.5))) / SAMPLE_RATE
    if rng.random() < 0.2:
        partials = [(1 + 0.7 * (rng.random() - 0.5), 1.0) for _ in range(64)]
    else:
        harmonic = rng.random() < 0.6
        partials = [(1.0, 1.0)]
        for number in range(2, 2 + int(rng.random() * 7)):
            partials.append((float(number) if harmonic else 1.5 + 4.5 * rng.random(), 0.8 * rng.random()))
    highest = pitch * 2 ** (abs(octaves) / 2)
    audible = [(k, a) for k, a in partials if k * highest < SAMPLE_RATE / 2]
    wave = np.sum([a * np.sin(k * phase + 2 * np.pi * rng.random()) for k, a in audible], axis=0)
    envelope = np.minimum(1.0, t / 0.01) * np.minimum(1.0, (AUDIO_SECONDS - t) / 0.02)
    kind = int(rng.random() * 4)
    if kind == 1:
        envelope = envelope * np.exp(-t / (0.3 + rng.random()))
    elif kind == 2:
        envelope = envelope * (0.5 + 0.5 * np.cos(2 * np.pi * (3 + 4 * rng.random()) * t))
    elif kind == 3:
        period = 0.5 + rng.random()
        envelope = envelope * np.clip((0.5 * period - t % period) / 0.02, 0, 1)
    return wave * envelope * (0.06 + 0.12 * rng.random()) / np.sqrt(np.mean(np.square(wave)))
