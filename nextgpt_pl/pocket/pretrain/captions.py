"""The text encoders of the pocket decoders: trained first and alone, by telling captions apart.

Two wordings of one scene must come out alike; captions of other scenes, and of scenes that differ in one attribute,
must not. So an embedding holds every attribute and little of the wording: all that a decoder can use, and all that
signal tokens can be asked to tell. Like Stable Diffusion's, the text encoder is frozen while the UNet trains.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nextgpt_pl.modality import Modality
from nextgpt_pl.pocket import grammar
from nextgpt_pl.pocket.pretrain.loop import PretrainTask
from nextgpt_pl.pocket.world import (
    BACKGROUNDS,
    COLOURS,
    MOTIONS,
    PATTERNS,
    PITCHES,
    POSITIONS,
    SHAPES,
    SIZES,
    TIMBRES,
    ImageScene,
    Scene,
    draw_scene,
    item_scene,
    pick,
)

_TEMPERATURE = 0.07
_OPTIONS: dict[str, tuple[str, ...]] = {
    "shape": SHAPES,
    "colour": tuple(COLOURS),
    "size": tuple(SIZES),
    "position": tuple(POSITIONS),
    "background": tuple(BACKGROUNDS),
    "motion": MOTIONS,
    "timbre": TIMBRES,
    "pitch": tuple(PITCHES),
    "pattern": PATTERNS,
}

Embed = Callable[[nn.Module, Tensor, Tensor], Tensor]


def near_miss(scene: Scene, rng: Random) -> Scene:
    """The scene with one attribute changed, or with two objects' shapes or colours exchanged."""
    if isinstance(scene, ImageScene):
        if rng.random() < 0.2:
            others = tuple(b for b in BACKGROUNDS if b != scene.background)
            return replace(scene, background=pick(rng, others))
        things = list(scene.things)
        name = pick(rng, ("shape", "colour", "size"))
        if len(things) == 2 and getattr(things[0], name) != getattr(things[1], name) and rng.random() < 0.3:
            values = [getattr(thing, name) for thing in things]
            things = [replace(thing, **{name: value}) for thing, value in zip(things, reversed(values), strict=True)]
        elif len(things) == 1 and rng.random() < 0.3:
            things = [_changed(things[0], "position", rng)]
        else:
            index = int(rng.random() * len(things))
            things[index] = _changed(things[index], name, rng)
        return replace(scene, things=tuple(things))
    names = [name for name in _OPTIONS if getattr(scene, name, None) is not None]
    return _changed(scene, pick(rng, names), rng)


def _changed(item: Any, name: str, rng: Random) -> Any:
    others = tuple(option for option in _OPTIONS[name] if option != getattr(item, name))
    return replace(item, **{name: pick(rng, others)})


class CaptionContrast(PretrainTask):
    """Contrastive loss between two wordings of each scene, with near misses among the negatives.

    Args:
        text_encoder: the network.
        tokenizer: of the network.
        embed: caption embedding of ``(network, input_ids, attention_mask)``, as the pipeline will use it.
        modalities: whose captions it is to read.
        steps: length of the training.
        seed: of everything random.

    """

    batch_size = 48

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
        self.text_encoder, self.tokenizer, self.embed_tokens, self.modalities = (
            text_encoder,
            tokenizer,
            embed,
            tuple(modalities),
        )

    def embed(self, captions: list[str]) -> Tensor:
        """Caption embeddings, padded as the pipeline will pad them."""
        encoded = self.tokenizer(captions, padding="max_length", truncation=True, return_tensors="pt").to(self.device)
        return self.embed_tokens(self.text_encoder, encoded.input_ids, encoded.attention_mask)

    def loss(self, rng: Random, generator: torch.Generator) -> Tensor:
        """Cross-entropy of finding the other wording, in both directions."""
        modality = pick(rng, self.modalities)
        scenes = [draw_scene(modality, rng) for _ in range(self.batch_size)]
        near = [near_miss(scene, rng) for scene in scenes]
        embeddings = self.embed([grammar.caption(s, rng) for s in (*scenes, *scenes, *near)]).flatten(1)
        # what all captions share would drown the differences
        unit = F.normalize(embeddings - embeddings.mean(0), dim=-1)
        one, other, wrong = unit.chunk(3)
        same = torch.tensor([[a == b for b in scenes] for a in scenes], device=self.device)
        missed = torch.tensor([[a == b for b in near] for a in scenes], device=self.device)
        target = torch.cat([same, missed], dim=1).float()
        target = target / target.sum(1, keepdim=True)
        logits = [torch.cat([a @ b.T, a @ wrong.T], dim=1) / _TEMPERATURE for a, b in ((one, other), (other, one))]
        return torch.stack([F.cross_entropy(x, target) for x in logits]).mean()

    def quality(self) -> dict[str, float]:
        """See :func:`embedding_quality`."""
        return embedding_quality(self.embed, self.modalities)


@torch.no_grad()
def embedding_quality(
    embed: Callable[[list[str]], Tensor], modalities: Sequence[Modality], count: int = 256
) -> dict[str, float]:
    """On held-out captions: the share of the embeddings' variance that is due to wording alone, and the share of
    captions that lie nearer to another wording than to a near miss.
    """
    rng = Random("wordings")
    variance = wording = nearer = 0.0
    for modality in modalities:
        scenes = [item_scene("heldout", modality, i) for i in range(count)]
        near = [near_miss(scene, rng) for scene in scenes]
        one, other, wrong = (
            embed([grammar.caption(s, rng) for s in which]).flatten(1) for which in (scenes, scenes, near)
        )
        variance += float(one.var(0).mean())
        wording += float(0.5 * (one - other).square().mean())
        nearer += float(((one - other).norm(dim=1) < (one - wrong).norm(dim=1)).float().mean())
    return {"wording_share": wording / variance, "told_from_near_miss": nearer / len(modalities)}
