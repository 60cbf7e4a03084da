"""Pocket towers for depth, thermal and inertial readings, bound to the frozen pocket text tower as in ImageBind.

The text tower knows captions of images and videos only. A reading is bound to captions of scenes that it may be of, so
its embedding approaches the mean over all that the sensor does not see. What only the sensor sees, such as distance,
has no caption: a linear classifier of all attributes, trained with the tower, keeps it in the embedding.

ImageBind's stems normalise each patch, so a uniform patch keeps no more than the sign of its level: how far a depth
patch is, and how warm a thermal one, is lost but at edges. The epsilon of this normalisation keeps the level where the
patch's projection is small. Towers are trained with a large epsilon, which then moves into the weights:
``norm(W x, k * k * eps) = norm(W x / k, eps)``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from nextgpt_pl.encoders import preprocessing
from nextgpt_pl.encoders.imagebind import ImageBindConfig, ImageBindModel, TowerConfig
from nextgpt_pl.encoders.imagebind_encoder import PLANE
from nextgpt_pl.modality import Modality
from nextgpt_pl.pocket.parts import JointEncoder
from nextgpt_pl.pocket.pretrain.captions import pooled_statements
from nextgpt_pl.pocket.pretrain.loop import PretrainTask, train
from nextgpt_pl.pocket.pretrain.reading import read_right, stated_rows
from nextgpt_pl.pocket.world import grammar
from nextgpt_pl.pocket.world.scenes import Split
from nextgpt_pl.pocket.world.sensed import SENSED, SensedScene, draw_sensed, sensed_item
from nextgpt_pl.pocket.world.sensed_words import seen
from nextgpt_pl.pocket.world.sensors import sense

_TEMPERATURE = 0.07
_CONTRAST = 0.1  # weight of the cross-entropy of media and captions
_READING = 1.0  # weight of the linear classifier's cross-entropy
_POSITION_SPREAD = 0.5
#: k of each stem; the epsilon is about the variance of a projected patch
_SOFTNESS = {Modality.DEPTH: 200.0, Modality.THERMAL: 200.0, Modality.IMU: 1000.0}
_TOWERS = {
    Modality.DEPTH: TowerConfig(width=64, blocks=3, heads=4),
    Modality.THERMAL: TowerConfig(width=64, blocks=3, heads=4),
    Modality.IMU: TowerConfig(width=64, blocks=3, heads=4),
}
_STEPS = {Modality.DEPTH: 1200, Modality.THERMAL: 900, Modality.IMU: 1000}
_PREPARE: dict[Modality, Callable[[np.ndarray], Tensor]] = {
    Modality.DEPTH: partial(preprocessing.depth_map, size=PLANE),
    Modality.THERMAL: partial(preprocessing.thermal_map, size=PLANE),
    Modality.IMU: preprocessing.motion,
}


def all_sensed_statements(modality: Modality, scenes: int = 4000) -> list[str]:
    """All statements that are true of some scene of a modality."""
    rng = Random("statements")
    return sorted({name for _ in range(scenes) for name in pooled_statements(draw_sensed(modality, rng))})


def _stem(model: ImageBindModel) -> Any:
    """The part of the only tower that projects patches and normalises them."""
    return next(module for module in model.modules() if hasattr(module, "norm_layer"))


def scale_stem(model: ImageBindModel, factor: float) -> None:
    """Multiply the stem's weights by ``factor`` and the epsilon by its square: the outputs stay equal."""
    stem = _stem(model)
    stem.proj.weight.data *= factor
    stem.norm_layer.eps *= factor**2


def waves(length: int, width: int) -> Tensor:
    """Sines and cosines of growing wavelengths, ``(length, width)``: near positions are alike."""
    angles = torch.arange(length)[:, None] * math.pi * 2 ** -torch.linspace(1, math.log2(2 * length), width // 2)
    return torch.cat([angles.sin(), angles.cos()], dim=1)


class Binding(PretrainTask):
    """Cross-entropy between readings and captions, squared distance of both, and the cross-entropy of a linear reader.

    Args:
        modality: what the tower reads.
        text: the pocket encoder, whose text tower is frozen.
        steps: number of training steps.
        seed: seed of all random numbers.

    """

    batch_size = 32

    def __init__(self, modality: Modality, text: JointEncoder, *, steps: int, seed: int) -> None:
        super().__init__(steps=steps, lr=2e-3, seed=seed, weight_decay=0.05)
        self.modality = modality
        self._text = (text,)  # in a tuple, so that it is no part of what is trained, averaged and saved
        self.model = ImageBindModel(ImageBindConfig(text.model.config.out_dim, {modality.value: _TOWERS[modality]}))
        self._initialise()
        self.statements = all_sensed_statements(modality)
        self.reader = nn.Linear(self.model.config.out_dim, len(self.statements))

    def _initialise(self) -> None:
        """Spread positions, as in :mod:`nextgpt_pl.pocket.pretrain.encoder`; project patches to small values."""
        for name, parameter in self.model.named_parameters():
            if name.endswith("pos_embed"):
                nn.init.normal_(parameter, std=_POSITION_SPREAD)
                if self.modality is Modality.IMU:  # a class token and a sequence
                    parameter.data[0, 1:] = _POSITION_SPREAD * 2**0.5 * waves(*parameter.shape[1:])[1:]
        for module in self.model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0  # the published half is for a tower eight times as wide
        _stem(self.model).proj.weight.data /= _SOFTNESS[self.modality]

    def start_from(self, other: Binding) -> None:
        """Copy the weights of another modality's tower of the same sizes, such as those of depth for thermal."""
        own, weights = self.model.state_dict(), other.model.state_dict()
        self.model.load_state_dict(dict(zip(own, weights.values(), strict=True)))

    def embed(self, scenes: list[SensedScene], rng: Random) -> Tensor:
        """Unit embeddings ``(N, D)`` of fresh readings."""
        prepared = torch.stack([_PREPARE[self.modality](sense(scene, rng)) for scene in scenes])
        return self.model(self.modality.value, prepared.to(self.device), scale=False)

    @torch.no_grad()
    def captions(self, scenes: list[SensedScene], rng: Random) -> Tensor:
        """The text tower's embeddings ``(N, D)`` of captions of scenes that the readings may be of."""
        return self._text[0].to(self.device).embed_captions([grammar.caption(seen(s, rng), rng) for s in scenes])

    def loss(self, rng: Random, generator: torch.Generator) -> Tensor:
        """Weighted sum of the three losses; distances are relative to the captions' variance."""
        scenes = [draw_sensed(self.modality, rng) for _ in range(self.batch_size)]
        media, text = self.embed(scenes, rng), self.captions(scenes, rng)
        same = torch.tensor([[a == b for b in scenes] for a in scenes], device=media.device).float()
        logits = media @ text.T / _TEMPERATURE
        contrast = (_match(logits, same) + _match(logits.T, same)) / 2
        distance = (media - text).square().mean() / text.var(0).mean()
        true = stated_rows(scenes, self.statements).to(media)
        read = self.reader(media * media.shape[1] ** 0.5)
        reading = F.binary_cross_entropy_with_logits(read, true, reduction="none").sum(1).mean()
        return _CONTRAST * contrast + distance + _READING * reading

    @torch.no_grad()
    def quality(self) -> dict[str, float]:
        """The share of held-out readings of which a linear probe predicts every attribute, and of near captions."""
        return {"read": self._readable(), "recall_to_text": self._recall(), "parameters": float(self._size())}

    def _size(self) -> int:
        return sum(p.numel() for p in self.model.parameters())

    def _readable(self) -> float:
        return read_right(
            lambda scenes: self.embed(scenes, Random(repr(scenes[0]))),
            self.modality,
            scene_at=partial(_item, self.modality),
            names=self.statements,
        )

    def _recall(self, count: int = 200) -> float:
        """Share of held-out readings whose nearest caption is of a scene that looks the same to the sensor."""
        rng = Random(f"retrieval/{self.modality}")
        scenes = [draw_sensed(self.modality, rng, "heldout") for _ in range(count)]
        nearest = (self.embed(scenes, rng) @ self.captions(scenes, rng).T).argmax(1).tolist()
        same = (seen(scenes[i], Random(0)) == seen(scenes[j], Random(0)) for i, j in enumerate(nearest))
        return sum(same) / count


def _item(modality: Modality, split: Split, index: int) -> SensedScene:
    return sensed_item(split, modality, index)


def _match(logits: Tensor, same: Tensor) -> Tensor:
    return F.cross_entropy(logits, same / same.sum(1, keepdim=True))


def trained_tower(folder: Path, text: Path) -> Binding:
    """The tower in ``folder``, which its modality names, for measurements; ``text`` is the pocket encoder's folder."""
    task = Binding(Modality(folder.name), JointEncoder.of(text), steps=0, seed=0)
    task.model.load_state_dict({k: v.float() for k, v in load_file(folder / "model.safetensors").items()})
    return task.eval()


def pretrain_tower(modality: Modality, out: Path, work: Path, *, seed: int, steps: int | None) -> None:
    """Train a tower, bound to the text tower in ``out/encoder``, and save it to a folder with the modality's name."""
    torch.manual_seed(seed)
    task = Binding(modality, JointEncoder.of(out / "encoder"), steps=steps or _STEPS[modality], seed=seed)
    if modality is Modality.THERMAL and (out / Modality.DEPTH.value).is_dir():
        task.start_from(trained_tower(out / Modality.DEPTH.value, out / "encoder"))
    scale_stem(task.model, _SOFTNESS[modality])
    train(task, work)
    scale_stem(task.model, 1 / _SOFTNESS[modality])
    folder = out / modality.value
    folder.mkdir(parents=True, exist_ok=True)
    task.model.config.to_json(folder / "config.json")
    save_file({k: v.half().contiguous() for k, v in task.model.state_dict().items()}, folder / "model.safetensors")


pretrain_depth, pretrain_thermal, pretrain_imu = (partial(pretrain_tower, modality) for modality in SENSED)
