"""Training of the pocket decoders' text encoders, before the UNets.

The target embedding is the sum of one fixed code per attribute, so it contains every attribute with equal weight and is
independent of the wording. In a sequence, the two objects have separate positions, so that a UNet can attend to one of
them. Contrastive training separates captions too, but entangles attributes, from which UNet and signal tokens learn
slowly. As in Stable Diffusion, the text encoder is frozen while the UNet is trained.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nextgpt_pl.modality import Modality
from nextgpt_pl.pocket.pretrain.loop import PretrainTask, train
from nextgpt_pl.pocket.pretrain.text import LONGEST_CAPTION, caption_tokenizer, load_tokenizer
from nextgpt_pl.pocket.world import grammar
from nextgpt_pl.pocket.world.render import WIDER, parts_of_value
from nextgpt_pl.pocket.world.scenes import (
    OPTIONS,
    AudioScene,
    ImageScene,
    Scene,
    VideoScene,
    changed,
    draw_scene,
    item_scene,
    pick,
)
from nextgpt_pl.pocket.world.sensed import AnyScene, DepthScene, MotionScene, ThermalScene

TEXT_WIDTH = 128  # of the text encoders

Embed = Callable[[nn.Module, Tensor, Tensor], Tensor]


def text_sizes(tokenizer: Any) -> dict[str, Any]:
    """Arguments of the configuration of both text encoders: two layers of four heads."""
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": TEXT_WIDTH,
        "intermediate_size": 4 * TEXT_WIDTH,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "projection_dim": TEXT_WIDTH,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }


def near_miss(scene: Scene, rng: Random) -> Scene:
    """The scene with one attribute changed, or with two objects' shapes or colours exchanged."""
    if isinstance(scene, ImageScene):
        if rng.random() < 0.2:
            return changed(scene, "background", rng)
        things = list(scene.things)
        name = pick(rng, ("shape", "colour", "size"))
        if len(things) == 2 and getattr(things[0], name) != getattr(things[1], name) and rng.random() < 0.3:
            values = [getattr(thing, name) for thing in things]
            things = [replace(thing, **{name: value}) for thing, value in zip(things, reversed(values), strict=True)]
        elif len(things) == 1 and rng.random() < 0.3:
            things = [changed(things[0], "position", rng)]
        else:
            index = int(rng.random() * len(things))
            things[index] = changed(things[index], name, rng)
        return replace(scene, things=tuple(things))
    names = [name for name in OPTIONS if getattr(scene, name, None) is not None]
    return changed(scene, pick(rng, names), rng)


def stated(scene: AnyScene) -> list[list[str]]:
    """Names of the codes of all attributes of a scene: one list per object, and one list for audio and IMU readings.

    Images, videos, depth and thermal readings have two lists, also with one object. Attributes of the full image are in
    both.
    """
    if isinstance(scene, (AudioScene, MotionScene)):
        return [[f"{name} {value}" for name, value in vars(scene).items()]]
    shared = [] if isinstance(scene, (DepthScene, ThermalScene)) else [f"background {scene.background}"]
    if isinstance(scene, VideoScene):
        shared.append(f"motion {scene.motion}")
        objects: list[dict[str, Any]] = [{"shape": scene.shape, "colour": scene.colour, "size": scene.size}]
    else:
        objects = [vars(thing) for thing in scene.things]
    lists = [[f"{name} {value}" for name, value in thing.items() if value is not None] for thing in objects]
    return [names + shared for names in (*lists, ["no object"])[:2]]


@cache
def code(name: str, shape: tuple[int, ...]) -> Tensor:
    """The fixed code of a statement: normal numbers seeded by its name; for interpolated values, a mixture."""
    attribute, _, value = name.partition(" ")
    if len(parts := parts_of_value(value)) > 1:
        mixed = torch.stack([share * code(f"{attribute} {named}", shape) for named, share in parts]).sum(0)
        return mixed / sum(share**2 for _, share in parts) ** 0.5
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _total(names: Sequence[str], shape: tuple[int, ...]) -> Tensor:
    """The sum of the statements' codes."""
    return torch.stack([code(name, shape) for name in names]).sum(0)


def pooled_statements(scene: AnyScene) -> list[str]:
    """All statements of a scene in one list; those of images and videos are numbered by object."""
    lists = stated(scene)
    return [f"{i} {name}" for i, names in enumerate(lists) for name in names] if len(lists) > 1 else lists[0]


def all_statements() -> list[str]:
    """All names that :func:`pooled_statements` may return, including audio outside the world."""
    names = [f"{name} {value}" for name in OPTIONS for value in (*OPTIONS[name], *WIDER.get(name, ()))]
    audio_names = [name for name in names if name.split()[0] in WIDER]
    visual_names = [name for name in (*names, "no object") if name not in audio_names]
    return [*audio_names, *(f"{i} {name}" for i in range(2) for name in visual_names)]


def pooled_code(scene: Scene, width: int) -> Tensor:
    """The sum of all codes of a scene, normalised to unit length, ``(width,)``."""
    return F.normalize(_total(pooled_statements(scene), (width,)), dim=0)


def partly_stated(scene: Scene, width: int, rng: Random) -> Tensor:
    """A pooled embedding ``(width,)`` of some attributes of an audio scene, with the scale of a full embedding.

    A decoder that is also trained on incomplete conditions generalises better to new combinations of attributes.
    """
    names = stated(scene)[0]
    kept: list[str] = []
    while not 0 < len(kept) < len(names):
        kept = [name for name in names if rng.random() < 0.5]
    return _total(kept, (width,)) / (len(names) * width) ** 0.5


def embed_captions(embed: Embed, text_encoder: nn.Module, tokenizer: Any, captions: Sequence[str]) -> Tensor:
    """Caption embeddings of a text encoder in training, padded as in the pipeline."""
    device = next(text_encoder.parameters()).device
    encoded = tokenizer(list(captions), padding="max_length", truncation=True, return_tensors="pt").to(device)
    return embed(text_encoder, encoded.input_ids, encoded.attention_mask)


class CaptionCoding(PretrainTask):
    """Squared distance between caption embeddings and their scenes' codes.

    A causal encoder has read the complete caption only after its end. In a sequence, only the last positions, after the
    longest caption, have codes as targets; the others have a constant target.

    Args:
        text_encoder: the network.
        tokenizer: tokenizer of the network.
        embed: function of ``(network, input_ids, attention_mask)`` that returns the pipeline's caption embedding.
        modalities: modalities of the captions.
        steps: number of training steps.
        seed: seed of all random numbers.

    """

    batch_size = 96

    def __init__(
        self,
        text_encoder: nn.Module,
        tokenizer: Any,
        embed: Embed,
        modalities: Sequence[Modality],
        *,
        steps: int,
        seed: int,
    ) -> None:
        super().__init__(steps=steps, lr=1e-3, seed=seed)
        self.text_encoder, self.tokenizer, self.embed = text_encoder, tokenizer, embed
        self.modalities = tuple(modalities)

    def target(self, scene: Scene, shape: torch.Size) -> Tensor:
        """Target embedding of a scene: ``(L, D)`` of unit variance, or ``(D,)`` of unit length."""
        if len(shape) == 1:
            return pooled_code(scene, shape[0])
        objects = stated(scene)
        part = ((shape[0] - LONGEST_CAPTION) // len(objects), shape[1])
        constant = _total([""], (shape[0] - len(objects) * part[0], shape[1]))
        return F.layer_norm(torch.cat([constant, *(_total(names, part) for names in objects)]), shape[1:])

    def loss(self, rng: Random, generator: torch.Generator) -> Tensor:
        """Mean squared error, relative to the variance of the targets."""
        modality = pick(rng, self.modalities)
        scenes = [draw_scene(modality, rng) for _ in range(self.batch_size)]
        captions = [grammar.caption(scene, rng) for scene in scenes]
        embeddings = embed_captions(self.embed, self.text_encoder, self.tokenizer, captions)
        targets = torch.stack([self.target(scene, embeddings.shape[1:]) for scene in scenes]).to(embeddings)
        return (embeddings - targets).square().mean() / targets.var(0).mean()


def train_coding(
    build: Callable[[Any], nn.Module],
    embed: Embed,
    modalities: Sequence[Modality],
    out: Path,
    work: Path,
    *,
    steps: int,
    seed: int,
) -> CaptionCoding:
    """Train the network that ``build`` returns for the tokenizer in ``out``; see :class:`CaptionCoding`."""
    tokenizer = caption_tokenizer(load_tokenizer(out, seed))
    torch.manual_seed(seed)
    task = CaptionCoding(build(tokenizer), tokenizer, embed, modalities, steps=steps, seed=seed)
    train(task, work)
    return task


@torch.no_grad()
def embedding_quality(
    embed: Callable[[list[str]], Tensor], modalities: Sequence[Modality], count: int = 256
) -> dict[str, float]:
    """Quality on held-out captions: the share of the embeddings' variance that is due to wording, and the share of
    captions that are closer to another wording of their scene than to a caption of a near miss.
    """
    rng = Random("wordings")
    variance = wording = nearer = 0.0
    for modality in modalities:
        scenes = [item_scene("heldout", modality, i) for i in range(count)]
        near = [near_miss(scene, rng) for scene in scenes]
        first, second, near_misses = (
            embed([grammar.caption(s, rng) for s in group]).flatten(1) for group in (scenes, scenes, near)
        )
        variance += float(first.var(0).mean())
        wording += float(0.5 * (first - second).square().mean())
        nearer += float(((first - second).norm(dim=1) < (first - near_misses).norm(dim=1)).float().mean())
    return {"wording_share": wording / variance, "told_from_near_miss": nearer / len(modalities)}
