"""The cells of the two-process matrix: stage, strategy and what differs between ranks; how each cell is built.

Every cell trains a few steps on batches that are written down here, and validates once. A process takes every other
item of a batch, one process takes all of them.
"""

import os
import shutil
from dataclasses import dataclass, replace
from functools import partial

import paper_parts
import tiny
import torch
from lightning.pytorch import LightningDataModule
from llm_families import FAMILIES
from saved_llms import save_family
from torch.utils.data import DataLoader

from nextgpt_pl.decoders import AudioLDMDecoder, DiffusionDecoder
from nextgpt_pl.dialogue.batching import pad
from nextgpt_pl.encoders import ImageBindEncoder
from nextgpt_pl.evaluation import CaptionQuality, JudgedRight, PocketRoute
from nextgpt_pl.evaluation.validation import ValidationTasks
from nextgpt_pl.llm import CausalLM, LoRA
from nextgpt_pl.modality import Modality
from nextgpt_pl.model import NextGPT
from nextgpt_pl.pocket.world import dialogues, items
from nextgpt_pl.projections import MLPOutputProjection, WordInputProjection
from nextgpt_pl.samples import Dialogue, MediaPart, Message, TextPart
from nextgpt_pl.stages import DecoderAlignment, EncoderAlignment, InstructionTuning

STAGES = ("EncoderAlignment", "DecoderAlignment", "InstructionTuning")
# beyond the matrix: from another stage's adapter, with LoRA; training that goes on from a checkpoint; rows that are
# packed; two replicas
_EXTRA = [("DecoderAlignment", "inherited"), ("InstructionTuning", "inherited"), ("InstructionTuning", "resumed")]
_EXTRA += [("InstructionTuning", "packed")]
# LLMs that soft-cap or scale their logits
LOGITS = {"soft_capped": "Gemma 2", "scaled": "Granite"}
FEATURES = ("differ", "alike", "text_only", "uneven", "accumulate", "clipping", "denoising", "null_signals", "tasks")

# an item by its letter: which medium is shown, and which is made
_KINDS = {"i": ("image", "video"), "v": ("video", "audio"), "a": ("audio", "image")}
# t: words alone. A capital letter: the made medium is unknown, only its caption is there
_BATCHES = {
    "differ": ("iv", "ai", "va", "ia"),
    # only one modality is shown in a step, and one made
    "alike": ("iiii", "vv", "aa", "ii"),
    "packed": ("tivtta", "atttvt", "ttittt"),
    "text_only": ("it", "vt", "at", "ti"),
    "uneven": ("ivai", "vaiv", "aiv"),
    "denoising": ("iv", "aI", "Va", "It"),
    "null_signals": ("iv", "aI", "Va", "It"),
    "tasks": ("iv", "ai"),
}
_VALIDATION = ("iva", "aiv")
_SMALL = {"num_inference_steps": 2, "guidance_scale": 2.0, "height": 64, "width": 64}
_SIZES = {"image": _SMALL, "video": {**_SMALL, "num_frames": 4}}
_SOUND = {"num_inference_steps": 2, "guidance_scale": 2.0, "audio_length_in_s": 1.0}


@dataclass(frozen=True)
class Cell:
    """One run; ``strategy`` is ``alone`` for one process."""

    stage: str
    feature: str
    strategy: str = "alone"

    @property
    def name(self) -> str:
        return f"{self.strategy}-{self.stage}-{self.feature}"

    @property
    def batches(self):
        return _BATCHES.get(self.feature, _BATCHES["differ"])


# stage 1 has no decoders: nothing is denoised, and nothing steered away from
PAIRS = [(s, f) for s in STAGES for f in FEATURES if s != STAGES[0] or f not in ("denoising", "null_signals")]
ALONE = [Cell(*pair) for pair in (*PAIRS, *_EXTRA)] + [Cell("InstructionTuning", feature) for feature in LOGITS]
# what DDP does in another way than FSDP; with NEXTGPT_LONG_TESTS it runs all cells
_DDP = FEATURES if os.environ.get("NEXTGPT_LONG_TESTS") else ("differ", "uneven", "accumulate", "resumed")
TOGETHER = [Cell(*pair, "fsdp2") for pair in (*PAIRS, *_EXTRA)]
TOGETHER += [Cell(*pair, "ddp") for pair in (*PAIRS, *_EXTRA) if pair[1] in _DDP]
TOGETHER += [Cell(stage, "differ", "hsdp") for stage in STAGES] + [Cell("InstructionTuning", "resumed", "hsdp")]
TOGETHER += [Cell("InstructionTuning", feature, "fsdp2") for feature in LOGITS]


class _SameNoise:
    """A decoder whose denoising error of a medium does not depend on the batch, so that world sizes can be compared."""

    def denoising_loss(self, embeddings, latents, *, gamma, generator):
        errors = []
        for embedding, latent in zip(embeddings, latents, strict=True):
            noise = torch.Generator().manual_seed(7)
            errors.append(super().denoising_loss(embedding[None], latent[None], gamma=gamma, generator=noise))
        return torch.stack(errors).mean()


class _Pictures(_SameNoise, DiffusionDecoder):
    pass


class _Sounds(_SameNoise, AudioLDMDecoder):
    pass


def _decoders(folder):
    return {
        "image": _Pictures("StableDiffusionPipeline", str(folder / "image"), _SIZES["image"]),
        "video": _Pictures("TextToVideoSDPipeline", str(folder / "video"), _SIZES["video"], fps=8.0),
        "audio": _Sounds("AudioLDMPipeline", str(folder / "audio"), _SOUND),
    }


def network(cell, folder, **llm):
    """A network of tiny random parts, not loaded."""
    torch.manual_seed(0)
    name = cell.feature if cell.feature in LOGITS else "llm"
    own = FAMILIES[LOGITS[cell.feature]].llm if cell.feature in LOGITS else {}
    return NextGPT(
        llm=CausalLM(str(folder / name), packing=cell.feature == "packed", **own, **llm),
        encoder=ImageBindEncoder(str(folder / "encoder"), video_clips=2, audio_clips=1),
        input_projection=partial(WordInputProjection, width=16, expand=2),
        decoders={} if cell.stage == STAGES[0] else _decoders(folder),
        output_projection=partial(MLPOutputProjection, width=16),
        null_signals=cell.feature == "null_signals",
    )


def stage(cell, folder):
    arguments = {"lr": 3e-3, "warmup_ratio": 0.0}
    if cell.feature == "inherited":
        arguments["init_from"] = folder / "adapter"
    model = network(cell, folder)
    if cell.stage == STAGES[0]:
        # uneven batches: one process has its caption, the other one writes on
        captions = 2 if cell.feature == "uneven" else 8
        words = {"word_steps": 1, "word_weight": 0.5}
        return EncoderAlignment(model, captions=captions, max_new_tokens=4, **words, **arguments)
    arguments |= {"samples": 1 if cell.feature == "tasks" else 0}
    if cell.feature in ("denoising", "null_signals"):
        arguments["denoising_weights"] = dict.fromkeys(("image", "video", "audio"), 0.5)
    if cell.feature == "null_signals":
        # of all media: which ones is drawn on each process by itself
        arguments["condition_dropout"] = 1 - 1e-12
    if cell.stage == STAGES[1]:
        return DecoderAlignment(model, **arguments)
    return InstructionTuning(model, lora=LoRA(r=2, alpha=4, dropout=0.0), **arguments)


def save_models(folder):
    """The tiny parts in ``folder``, and an adapter of all that a stage trains; in ``folder/blind`` without weights.

    A process that reads no weights finds all that it needs there.
    """
    tiny.save_models(folder)
    paper_parts.save_pipelines(folder)
    for name, family in LOGITS.items():
        save_family(family, folder / name)
    trained = stage(Cell("InstructionTuning", "differ"), folder)
    trained.configure_model()
    with torch.no_grad():
        for parameter in trained.trainable().values():
            parameter.add_(0.01 * torch.randn_like(parameter))
    trained.save_adapter(folder / "adapter")
    blind = folder / "blind"
    for part in ("llm", "encoder", "adapter", *LOGITS):
        shutil.copytree(folder / part, blind / part, ignore=shutil.ignore_patterns("*.safetensors"))
    for part in ("image", "video", "audio"):  # each process has its own decoders
        (blind / part).symlink_to(folder / part)


def callbacks(cell):
    if cell.feature != "tasks":
        return []
    if cell.stage == STAGES[1]:  # its rows show no media
        return [ValidationTasks([PocketRoute("text->image", [JudgedRight()], count=2, max_new_tokens=8)])]
    told = [JudgedRight(), CaptionQuality(only=["CIDEr-D"])]
    tasks = [PocketRoute("image->text", told, count=2, max_new_tokens=6)]
    if cell.stage == STAGES[2]:
        tasks.append(PocketRoute("text->image+audio", [JudgedRight()], count=2, max_new_tokens=12))
    return [ValidationTasks(tasks)]


def _item(letter, number, stage_name):
    if letter == "t":
        return dialogues.dialogue("text->text", "heldout", number)
    shown, made = (items.captioned_pair("train", Modality(m), number) for m in _KINDS[letter.lower()])
    if letter.isupper():
        made = replace(made, media=None)
    if stage_name != STAGES[2]:
        return shown if stage_name == STAGES[0] else made
    asked = (MediaPart(shown.modality, shown.media), TextPart("And now something else."))
    answered = (TextPart("Here."), MediaPart(made.modality, made.media, caption=made.caption))
    return Dialogue(f"{letter}{number}", (Message("user", asked), Message("assistant", answered)))


class Batches(LightningDataModule):
    """This rank's part of each of the cell's batches."""

    def __init__(self, cell) -> None:
        super().__init__()
        self.cell = cell

    def _share(self, batches):
        render = self.trainer.lightning_module.renderer
        rank, world = self.trainer.global_rank, self.trainer.world_size
        rows = [
            [render(_item(letter, 10 * n + k, self.cell.stage)) for k, letter in enumerate(batch)][rank::world]
            for n, batch in enumerate(batches)
        ]
        return DataLoader([pad(batch, render.pad_token_id) for batch in rows], batch_size=None)

    def train_dataloader(self):
        return self._share(self.cell.batches)

    def val_dataloader(self):
        return self._share(_VALIDATION)
