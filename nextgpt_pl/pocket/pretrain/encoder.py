"""The pocket ImageBind: image, video, audio and text in one space, trained contrastively and on attribute codes.

Contrast alone makes a space in which captions are found again, but hides the attributes in it: a probe of 2,000
examples reads all of them right in 8% of the images. So media and captions are also drawn towards one fixed code per
attribute.
"""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from nextgpt_pl.encoders import preprocessing
from nextgpt_pl.encoders.imagebind import ImageBindConfig, ImageBindModel
from nextgpt_pl.encoders.imagebind_encoder import TOWER
from nextgpt_pl.modality import GENERATED, Modality
from nextgpt_pl.pocket import grammar
from nextgpt_pl.pocket.pretrain.captions import near_miss, pooled_code
from nextgpt_pl.pocket.pretrain.loop import PretrainTask, train
from nextgpt_pl.pocket.pretrain.text import CONTEXT, caption_tokenizer, load_tokenizer
from nextgpt_pl.pocket.render import render
from nextgpt_pl.pocket.weights import weights_root
from nextgpt_pl.pocket.world import SAMPLE_RATE, Scene, draw_scene, pick

_TEMPERATURE = 0.07
_CONTRAST = 0.1  # weight of the cross-entropy
_POSITION_SPREAD = 0.5


def tower_input(arrays: list[np.ndarray], modality: Modality, config: ImageBindConfig) -> Tensor:
    """Rendered media as the towers want them; videos as four clips of two neighbouring frames."""
    if modality is Modality.IMAGE:
        return torch.stack([preprocessing.picture(a, config.image_size) for a in arrays])
    if modality is Modality.VIDEO:
        return torch.stack([preprocessing.video_clips(a, config.image_size, 4, config.clip_frames) for a in arrays])
    sounds = [preprocessing.audio_clips(a, SAMPLE_RATE, 1, 2.0, config.mel_bins, config.mel_frames) for a in arrays]
    return torch.stack(sounds)


class Contrastive(PretrainTask):
    """Symmetric cross-entropy between media and captions, and squared distance of both to their scenes' codes.

    Each step is of one modality. In the cross-entropy, items that mean the same all count as right, and captions of
    near misses join the negatives: in chance company one attribute or two would do to find the right caption.
    """

    batch_size = 32
    modalities = (Modality.IMAGE, Modality.IMAGE, Modality.VIDEO, Modality.VIDEO, Modality.AUDIO)  # sounds are easy

    def __init__(self, tokenizer: Any, *, steps: int, seed: int) -> None:
        super().__init__(steps=steps, lr=1e-3, seed=seed, weight_decay=0.05)
        self.tokenizer = tokenizer
        self.model = ImageBindModel(ImageBindConfig.pocket(len(tokenizer), tokenizer.eos_token_id, CONTEXT))
        for name in ("vision", "audio"):
            # beside patches of spread 1, positions that start at 0.02 are not seen for thousands of steps
            positions = self.model.modality_preprocessors[name].get_parameter("pos_embedding_helper.pos_embed")
            nn.init.normal_(positions, std=_POSITION_SPREAD)

    def embed_captions(self, captions: list[str]) -> Tensor:
        """Unit embeddings ``(N, D)``."""
        ids = self.tokenizer(captions, padding="max_length", truncation=True, return_tensors="pt").input_ids
        return self.model("text", ids.to(self.device), scale=False)

    def embed_media(self, scenes: list[Scene], modality: Modality, rng: Random) -> Tensor:
        """Unit embeddings ``(N, D)`` of freshly rendered scenes."""
        inputs = tower_input([render(scene, rng) for scene in scenes], modality, self.model.config)
        return self.model(TOWER[modality], inputs.to(self.device), scale=False)

    def loss(self, rng: Random, generator: torch.Generator) -> Tensor:
        """Both directions of the cross-entropy, and the distances to the codes relative to the codes' own spread."""
        modality = pick(rng, self.modalities)
        scenes = [draw_scene(modality, rng) for _ in range(self.batch_size)]
        near = [near_miss(scene, rng) for scene in scenes]
        media = self.embed_media(scenes, modality, rng)
        captions = self.embed_captions([grammar.caption(s, rng) for s in (*scenes, *near)])
        same = torch.tensor([[a == b for b in (*scenes, *near)] for a in scenes], device=self.device).float()
        to_text, to_media = media @ captions.T / _TEMPERATURE, captions[: len(scenes)] @ media.T / _TEMPERATURE
        contrast = (_match(to_text, same) + _match(to_media, same[:, : len(scenes)])) / 2
        wanted = torch.stack([pooled_code(s, media.shape[1]) for s in (*scenes, *near)]).to(media)
        distances = [(media - wanted[: len(scenes)]).square().mean(), (captions - wanted).square().mean()]
        return _CONTRAST * contrast + torch.stack(distances).sum() / wanted.var(0).mean()

    @torch.no_grad()
    def retrieval(self, count: int = 200) -> dict[str, float]:
        """Recall@1 among held-out items in both directions; finding one that means the same counts."""
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


def shipped_encoder() -> Contrastive:
    """The package's encoder, to be measured."""
    folder = weights_root() / "encoder"
    task = Contrastive(PreTrainedTokenizerFast.from_pretrained(folder), steps=0, seed=0)
    task.model.load_state_dict({k: v.float() for k, v in load_file(folder / "model.safetensors").items()})
    return task.eval()


def pretrain_encoder(out: Path, work: Path, *, seed: int = 0, steps: int | None = None) -> dict[str, float]:
    """Train the pocket ImageBind and save it to ``out/encoder``."""
    torch.manual_seed(seed)
    task = Contrastive(caption_tokenizer(load_tokenizer(out, seed)), steps=steps or 3_000, seed=seed)
    train(task, work)
    folder = out / "encoder"
    folder.mkdir(parents=True, exist_ok=True)
    task.model.config.to_json(folder / "config.json")
    save_file({k: v.half().contiguous() for k, v in task.model.state_dict().items()}, folder / "model.safetensors")
    task.tokenizer.save_pretrained(folder)
    return task.retrieval()
