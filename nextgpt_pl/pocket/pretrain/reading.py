"""A linear probe of embeddings for all attributes of a medium, fitted in closed form."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from nextgpt_pl.modality import Modality
from nextgpt_pl.pocket.pretrain.captions import all_statements, pooled_statements
from nextgpt_pl.pocket.world.scenes import Split, item_scene
from nextgpt_pl.pocket.world.sensed import AnyScene

_RIDGE = 1e-3


def read_right(
    embed: Callable[[list[Any]], Tensor],
    modality: Modality,
    fitted: int = 1500,
    count: int = 300,
    batch: int = 50,
    scene_at: Callable[[Split, int], AnyScene] | None = None,
    names: Sequence[str] | None = None,
) -> float:
    """Share of held-out media for which a ridge regression on training media predicts all attributes.

    Args:
        embed: embeddings ``(N, D)`` of rendered scenes.
        modality: modality of the media.
        fitted: number of training media.
        count: number of held-out media.
        batch: number of media per batch of ``embed``.
        scene_at: the scene of a split and an index; by default that of the world's item.
        names: all statements that may be true; by default those of images, videos and audio.

    """
    names = names or all_statements()
    scene_at = scene_at or (lambda split, index: item_scene(split, modality, index))

    def rows(split: Split, number: int) -> tuple[Tensor, Tensor]:
        scenes = [scene_at(split, i) for i in range(number)]
        embeddings = torch.cat([embed(scenes[i : i + batch]) for i in range(0, number, batch)]).double()
        return torch.cat([embeddings, embeddings.new_ones(number, 1)], dim=1), stated_rows(scenes, names).double()

    features, statements = rows("train", fitted)
    square = features.T @ features + _RIDGE * torch.eye(features.shape[1], dtype=features.dtype)
    weights = torch.linalg.solve(square, features.T @ statements)
    features, statements = rows("heldout", count)
    return float(all_read(features @ weights, statements, names).double().mean())


def stated_rows(scenes: Sequence[AnyScene], names: Sequence[str]) -> Tensor:
    """Which of the statements are true of each scene, ``(N, len(names))`` of 0 and 1."""
    place = {name: i for i, name in enumerate(names)}
    rows = torch.zeros(len(scenes), len(names))
    for row, scene in zip(rows, scenes, strict=True):
        row[[place[name] for name in pooled_statements(scene)]] = 1
    return rows


def all_read(scores: Tensor, statements: Tensor, names: Sequence[str]) -> Tensor:
    """Per row, whether of every attribute the true statement has the highest score, ``(N,)`` bool."""
    attributes = [_attribute(name) for name in names]
    right = torch.ones(len(scores), dtype=torch.bool)
    for attribute in dict.fromkeys(attributes):
        columns = [i for i, other in enumerate(attributes) if other == attribute]
        stated = statements[:, columns].bool()
        if len(columns) == 1:  # yes or no
            right &= (scores[:, columns[0]] > 0.5) == stated[:, 0]
            continue
        best = stated.gather(1, scores[:, columns].argmax(1, keepdim=True))[:, 0]
        right &= best | ~stated.any(1)
    return right


def _attribute(name: str) -> str:
    """``0 shape circle`` to ``0 shape``, ``timbre square wave`` to ``timbre``."""
    words = name.split()
    return " ".join(words[:2]) if words[0].isdigit() else words[0]
