"""The pocket ImageBind: image, video, audio and text in one space, trained contrastively and on attribute codes.

Contrastive training alone gives a space for retrieval in which attributes are not linearly separable: a probe with
2,000 examples predicts all attributes of 8% of the images. Embeddings of media and captions are therefore also trained
towards one fixed code per attribute, and a linear classifier of all attributes is trained with the encoder.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from nextgpt_pl.encoders.imagebind import ImageBindConfig, ImageBindModel
from nextgpt_pl.modality import GENERATED, Modality
from nextgpt_pl.pocket.parts import JointEncoder
from nextgpt_pl.pocket.pretrain.captions import all_statements, near_miss, pooled_code
from nextgpt_pl.pocket.pretrain.loop import PretrainTask, train
from nextgpt_pl.pocket.pretrain.pictures import draw_picture
from nextgpt_pl.pocket.pretrain.reading import read_right, stated_rows
from nextgpt_pl.pocket.pretrain.sounds import draw_wider, is_wider
from nextgpt_pl.pocket.pretrain.text import CONTEXT, caption_tokenizer, load_tokenizer
from nextgpt_pl.pocket.world import grammar
from nextgpt_pl.pocket.world.render import render
from nextgpt_pl.pocket.world.scenes import Scene, draw_scene, pick

_TEMPERATURE = 0.07
_CONTRAST = 0.1  # weight of the cross-entropy
_READING = 0.2  # weight of the linear classifier's cross-entropy
_WIDER_SHARE = 0.5  # share of audio with attributes outside the world, against memorisation
_POSITION_SPREAD = 0.5


class Contrastive(PretrainTask):
    """Symmetric cross-entropy between media and captions, squared distance of both to their scenes' codes, and the
    cross-entropy of a linear reader of the media's embeddings.

    Each step has one modality. In the contrastive loss, all equal scenes are positives, and captions of near misses are
    additional negatives, since random negatives can be separated by one or two attributes.
    """

    batch_size = 32
    modalities = (Modality.IMAGE,) * 4 + (Modality.VIDEO,) * 2 + (Modality.AUDIO,)

    def __init__(self, tokenizer: Any, *, steps: int, seed: int) -> None:
        super().__init__(steps=steps, lr=1e-3, seed=seed, weight_decay=0.05)
        self.tokenizer = tokenizer
        self.model = ImageBindModel(ImageBindConfig.pocket(len(tokenizer), tokenizer.eos_token_id, CONTEXT))
        for name in ("vision", "audio"):
            # positions initialised with std 0.02 have no effect for thousands of steps, since patches have std 1
            positions = self.model.modality_preprocessors[name].get_parameter("pos_embedding_helper.pos_embed")
            nn.init.normal_(positions, std=_POSITION_SPREAD)
        self.statements = all_statements()
        self.reader = nn.Linear(self.model.config.out_dim, len(self.statements))

    def _joint(self) -> JointEncoder:
        return JointEncoder(self.model, self.tokenizer)

    def embed_captions(self, captions: list[str]) -> Tensor:
        """Unit embeddings ``(N, D)``."""
        return self._joint().embed_captions(captions)

    def embed_media(self, scenes: list[Scene], modality: Modality, rng: Random) -> Tensor:
        """Unit embeddings ``(N, D)`` of freshly rendered scenes."""
        return self._joint().embed_media([render(scene, rng) for scene in scenes], modality)

    def draw(self, modality: Modality, rng: Random) -> Scene:
        """A training scene; audio outside the world has no caption."""
        if modality is Modality.IMAGE:
            return draw_picture(rng)
        if modality is Modality.AUDIO and rng.random() < _WIDER_SHARE:
            return draw_wider(rng)
        return draw_scene(modality, rng)

    def loss(self, rng: Random, generator: torch.Generator) -> Tensor:
        """Weighted sum of the three losses; distances to the codes are relative to the codes' variance."""
        modality = pick(rng, self.modalities)
        scenes = sorted((self.draw(modality, rng) for _ in range(self.batch_size)), key=is_wider)
        in_world = [scene for scene in scenes if not is_wider(scene)]
        captioned = [*in_world, *(near_miss(scene, rng) for scene in in_world)]
        media = self.embed_media(scenes, modality, rng)
        captions = self.embed_captions([grammar.caption(scene, rng) for scene in captioned])
        codes = [
            torch.stack([pooled_code(s, media.shape[1]) for s in group]).to(media) for group in (scenes, captioned)
        ]
        distances = [(a - b).square().mean() for a, b in zip((media, captions), codes, strict=True)]
        distance = torch.stack(distances).sum() / codes[1].var(0).mean()
        contrast = self._contrast(media[: len(in_world)], captions, in_world, captioned)
        return _CONTRAST * contrast + distance + _READING * self._classification_loss(media, scenes)

    def _contrast(self, media: Tensor, captions: Tensor, in_world: list[Scene], captioned: list[Scene]) -> Tensor:
        """Cross-entropy in both directions; ``captions`` are of the media's own scenes first."""
        same = torch.tensor([[a == b for b in captioned] for a in in_world], device=self.device).float()
        to_text, to_media = media @ captions.T / _TEMPERATURE, captions[: len(in_world)] @ media.T / _TEMPERATURE
        return (_match(to_text, same) + _match(to_media, same[:, : len(in_world)])) / 2

    def _classification_loss(self, media: Tensor, scenes: list[Scene]) -> Tensor:
        """Cross-entropy of the linear classifier, summed over all statements, per medium."""
        true = stated_rows(scenes, self.statements)
        # scale unit embeddings, so that the classifier's inputs have unit variance
        logits = self.reader(media * media.shape[1] ** 0.5)
        return F.binary_cross_entropy_with_logits(logits, true.to(media), reduction="none").sum(1).mean()

    def quality(self) -> dict[str, float]:
        """Recall of retrieval, and accuracy of a linear probe."""
        return {**self.retrieval(), **self.readable()}

    @torch.no_grad()
    def readable(self) -> dict[str, float]:
        """Share of held-out media for which a linear probe predicts every attribute."""
        return {f"read_{m}": read_right(partial(self._render_and_embed, m), m) for m in GENERATED}

    def _render_and_embed(self, modality: Modality, scenes: list[Scene]) -> Tensor:
        return self.embed_media(scenes, modality, Random(repr(scenes[0])))

    @torch.no_grad()
    def retrieval(self, count: int = 200) -> dict[str, float]:
        """Recall@1 among held-out items in both directions; any item with an equal scene counts."""
        scores = {}
        for modality in GENERATED:
            rng = Random(f"retrieval/{modality}")
            scenes = [draw_scene(modality, rng, "heldout") for _ in range(count)]
            media = self.embed_media(scenes, modality, rng)
            text = self.embed_captions([grammar.caption(scene, rng) for scene in scenes])
            for name, similarity in (("from_text", text @ media.T), ("to_text", media @ text.T)):
                best = similarity.argmax(1).tolist()
                right = sum(scenes[i] == scenes[j] for i, j in enumerate(best))
                scores[f"recall_{modality}_{name}"] = right / count
        return scores


def _match(logits: Tensor, same: Tensor) -> Tensor:
    return F.cross_entropy(logits, same / same.sum(1, keepdim=True))


def trained_encoder(folder: Path) -> Contrastive:
    """The encoder in ``folder``, for measurements."""
    task = Contrastive(PreTrainedTokenizerFast.from_pretrained(folder), steps=0, seed=0)
    task.model.load_state_dict({k: v.float() for k, v in load_file(folder / "model.safetensors").items()})
    return task.eval()


def pretrain_encoder(out: Path, work: Path, *, seed: int, steps: int | None) -> None:
    """Train the pocket ImageBind and save it to ``out/encoder``."""
    torch.manual_seed(seed)
    task = Contrastive(caption_tokenizer(load_tokenizer(out, seed)), steps=steps or 6_000, seed=seed)
    train(task, work)
    folder = out / "encoder"
    folder.mkdir(parents=True, exist_ok=True)
    task.model.config.to_json(folder / "config.json")
    save_file({k: v.half().contiguous() for k, v in task.model.state_dict().items()}, folder / "model.safetensors")
    task.tokenizer.save_pretrained(folder)
