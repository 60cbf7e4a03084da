"""Variants of training steps for the benchmark: the package's step, a plain reference and limits, on random models.

The reference computes as the official code: it runs the encoder and its preprocessing in every step unless features are
given, goes through media and spans sample by sample, computes logits of all positions and keeps all hidden states. It
trains what ours trains; as released, it also trains the full embedding and head. All use the same optimizer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any
from zlib import crc32

import torch
import torch.nn.functional as F
from torch import Tensor

from nextgpt_pl.batches import IGNORE, Batch, MediaSlot, Rendered
from nextgpt_pl.decoders import PrecomputedEmbeddings
from nextgpt_pl.decoders.base import Decoder
from nextgpt_pl.dialogue.batching import pad
from nextgpt_pl.encoders import ImageBindEncoder
from nextgpt_pl.encoders.imagebind import ImageBindConfig, ImageBindModel, TowerConfig
from nextgpt_pl.features import FeatureCache
from nextgpt_pl.llm import CausalLM, LoRA
from nextgpt_pl.losses import shifted_labels
from nextgpt_pl.modality import GENERATED, Modality
from nextgpt_pl.model import NextGPT
from nextgpt_pl.pocket.parts import pocket_decoder
from nextgpt_pl.pocket.world import dialogues, items
from nextgpt_pl.projections import LinearInputProjection, TransformerOutputProjection
from nextgpt_pl.stages import DecoderAlignment, EncoderAlignment, InstructionTuning
from nextgpt_pl.stages.base import Stage

STAGES = ("enc_align", "dec_align", "dec_align_frozen", "instruct")
LLMS: dict[str, dict[str, int]] = {
    "small": {
        "vocab_size": 32_000,
        "hidden_size": 512,
        "intermediate_size": 1_376,
        "num_hidden_layers": 8,
        "num_attention_heads": 8,
        "num_key_value_heads": 8,
    },
    "smol": {
        "vocab_size": 49_152,
        "hidden_size": 576,
        "intermediate_size": 1_536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
    },
    "smol360": {
        "vocab_size": 49_152,
        "hidden_size": 960,
        "intermediate_size": 2_560,
        "num_hidden_layers": 32,
        "num_attention_heads": 15,
        "num_key_value_heads": 5,
    },
}
# tokens and width of the caption embeddings of Stable Diffusion 1.5, Zeroscope and AudioLDM
EMBEDDINGS = {Modality.IMAGE: (77, 768), Modality.VIDEO: (77, 1024), Modality.AUDIO: (512,)}
TOWERS = {"vision": TowerConfig(640, 9, 10), "audio": TowerConfig(512, 7, 8, scale=20.0)}


class RandomTargets(PrecomputedEmbeddings):
    """A decoder whose caption embeddings are random, each caption's its own; they cost nothing after the first time."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__(list(shape))
        self._made: dict[str, Tensor] = {}

    def embed_captions(self, captions: Sequence[str]) -> Tensor:
        """See :class:`Decoder`."""
        for caption in captions:
            if caption not in self._made:
                generator = torch.Generator().manual_seed(crc32(caption.encode()))
                self._made[caption] = torch.randn(self.shape, generator=generator)
        return torch.stack([self._made[caption] for caption in captions])


def save_models(folder: Path, llm: str) -> None:
    """Random weights, the same for all that are compared."""
    from safetensors.torch import save_file
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    tokenizer = CausalLM("pocket:llm").tokenizer
    config = LlamaConfig(**LLMS[llm], eos_token_id=tokenizer.eos_token_id, tie_word_embeddings=llm != "small")
    LlamaForCausalLM(config).save_pretrained(folder / "llm")
    tokenizer.save_pretrained(folder / "llm")
    encoder = ImageBindConfig(1024, TOWERS)
    (folder / "encoder").mkdir()
    encoder.to_json(folder / "encoder" / "config.json")
    save_file(dict(ImageBindModel(encoder).state_dict()), folder / "encoder" / "model.safetensors")


@dataclass(frozen=True)
class Setting:
    """What is compared.

    Attributes:
        stage: one of ``STAGES``.
        folder: of the models.
        rows: number of rows in the batch.
        context: number of tokens of a system prompt in front of each row; Vicuna's has about 35.
        media: modalities of the rows in turn; those of stage 3 are always mixed.
        encoder: whether the reference runs the encoder in each step; otherwise features are given to all.
        llm: more arguments of the language model.
        cache: feature cache of ours; without it, features are kept in memory.

    """

    stage: str
    folder: Path
    rows: int = 15
    context: int = 32
    media: tuple[Modality, ...] = GENERATED
    encoder: bool = False
    llm: Mapping[str, Any] = field(default_factory=dict)
    cache: FeatureCache | None = None


def build_stage(setting: Setting, denoising: float = 0.0) -> Stage:
    """A stage of ours on the random models, with output projections of the paper's size.

    Args:
        setting: what is compared.
        denoising: weight of stage 2's denoising error, which needs real decoders; those are the pocket world's.

    """
    torch.manual_seed(0)
    decoders: dict[str, Decoder] = {m.value: RandomTargets(EMBEDDINGS[m]) for m in GENERATED}
    if denoising:
        decoders = {m.value: pocket_decoder(m) for m in GENERATED}
    name, shows = setting.stage, not setting.stage.startswith("dec_align")
    network = NextGPT(
        llm=CausalLM(str(setting.folder / "llm"), **setting.llm),
        encoder=ImageBindEncoder(str(setting.folder / "encoder"), video_clips=5, audio_clips=3) if shows else None,
        input_projection=LinearInputProjection if shows else None,
        decoders=decoders if name != "enc_align" else {},
        output_projection=partial(TransformerOutputProjection, width=512, layers=4, heads=4, dropout=0.0),
        cache=setting.cache,
    )
    stage: Stage
    if name == "enc_align":
        stage = EncoderAlignment(network, captions=0)
    elif name == "instruct":
        stage = InstructionTuning(network, lora=LoRA(r=16, alpha=16, dropout=0.0), samples=0)
    else:
        weights = {m.value: denoising for m in GENERATED} if denoising else {}
        trained, together = name == "dec_align", setting.rows
        stage = DecoderAlignment(
            network, samples=0, train_signal_rows=trained, rows_at_a_time=together, denoising_weights=weights
        )
    stage.configure_model()
    stage.log_split = lambda *_: None  # type: ignore[method-assign]
    stage.eval()
    return stage


def make_batch(setting: Setting, stage: Stage) -> Batch:
    """The media are shown in stages 1 and 3 and made in stages 2 and 3."""
    render = stage.renderer
    if setting.stage == "instruct":
        routes = ("image->video", "video->text", "audio->image")
        rows = [render(dialogues.dialogue(routes[i % 3], "train", i)) for i in range(setting.rows)]
    else:
        media = setting.media
        rows = [render(items.captioned_pair("train", media[i % len(media)], i)) for i in range(setting.rows)]
    return pad([with_context(row, setting.context) for row in rows], render.pad_token_id)


def with_context(row: Rendered, count: int) -> Rendered:
    """A row behind ``count`` tokens of a system prompt, which have no labels."""
    slots = tuple(replace(slot, start=slot.start + count, stop=slot.stop + count) for slot in row.slots)
    spans = tuple(replace(span, start=span.start + count, stop=span.stop + count) for span in row.spans)
    ids, labels = [*range(10, 10 + count), *row.input_ids], [IGNORE] * count + list(row.labels)
    return replace(row, input_ids=ids, labels=labels, slots=slots, spans=spans)


class Ours:
    """The stage's own step, with its optimizer."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.stage = build_stage(setting)
        self.batch = make_batch(setting, self.stage)
        self.optimizer = torch.optim.AdamW(self.stage.parameter_groups(), lr=1e-6, fused=True)
        self.prepare()

    def prepare(self) -> None:
        """What is done once, before any step."""

    def forget(self) -> None:
        """Drop what frozen parts have computed."""
        if self.stage.network.encoder is not None:
            self.stage.network.encoder_stores.memory._values.clear()
        states = getattr(self.stage, "signal_states", None)
        if states is not None:
            states._stores.clear()

    def loss(self) -> Tensor:
        """What a step lowers."""
        return self.stage.model_step(self.batch, "train")

    def __call__(self) -> float:
        """One step; its loss."""
        self.optimizer.zero_grad()
        loss = self.loss()
        loss.backward()
        self.optimizer.step()
        return float(loss.detach())


class Reference(Ours):
    """What the official code does with the same weights, the same batch and the same trained parameters."""

    def prepare(self) -> None:
        """The features, if the encoder is left out."""
        self.features: dict[Modality, list[Tensor]] = {}
        if not self.setting.encoder and self.batch.slots:
            with torch.no_grad():
                found = self.stage.network.features(self.batch)
            self.features = {modality: list(features) for modality, (_, features) in found.items()}

    def _feature(self, modality: Modality, number: int, slot: MediaSlot) -> Tensor:
        if self.features:
            return self.features[modality][number][None]
        encoder = self.stage.network.encoder
        assert encoder is not None
        with torch.no_grad():
            return encoder(modality, encoder.prepare(slot.media)[None])

    def _embeddings(self) -> Tensor:
        network, rows = self.stage.network, []
        tokens = network.llm.embed(self.batch.input_ids)
        for row in range(len(self.batch)):
            embedded = tokens[row]
            for modality, slots in self.batch.slots.items():
                for number, slot in ((n, entry[1]) for n, entry in enumerate(slots) if entry[0] == row):
                    shown = network.input_projection(modality)(self._feature(modality, number, slot))[0]
                    embedded = torch.cat([embedded[: slot.start], shown, embedded[slot.stop :]])
            rows.append(embedded)
        return torch.stack(rows)

    def loss(self) -> Tensor:
        """All logits, all hidden states, one medium after the other."""
        network, batch = self.stage.network, self.batch
        embeddings = self._embeddings()
        mask = batch.attention_mask
        out = network.llm.model.base_model(
            inputs_embeds=embeddings, attention_mask=mask, output_hidden_states=True, use_cache=False
        )
        logits = network.llm.logits(out.last_hidden_state)
        loss = F.cross_entropy(logits[:, :-1].flatten(0, 1).float(), batch.labels[:, 1:].flatten(), ignore_index=-100)
        weights = getattr(self.stage, "weights", {})
        for modality, spans in batch.spans.items():
            count = len(network.span_ids()[modality])
            places = [(r, slice(s, s + count)) for r, s in zip(spans.rows.tolist(), spans.starts.tolist(), strict=True)]
            hidden = torch.stack([out.hidden_states[-1][row, place] for row, place in places])
            predicted = network.project_signals(modality, hidden, torch.stack([embeddings[p] for p in places]))
            target = network.decoders[modality].embed_captions(spans.captions).view_as(predicted)
            loss = loss + weights[modality] * (predicted - target).square().mean()
        return loss


class Released(Reference):
    """The official code as released: the whole vocabulary trains."""

    def prepare(self) -> None:
        """Also train embedding and head."""
        super().prepare()
        model = self.stage.network.llm.model
        layers = (model.get_input_embeddings(), model.get_output_embeddings())
        trained = {id(p) for group in self.optimizer.param_groups for p in group["params"]}
        whole = {id(p): p for layer in layers for p in layer.parameters() if id(p) not in trained}
        for parameter in whole.values():
            parameter.requires_grad_(True)
        self.optimizer.add_param_group({"params": list(whole.values())})


class Bare(Ours):
    """The LLM alone with its head at the labels, forward and backward."""

    def prepare(self) -> None:
        """The embeddings, media and all."""
        with torch.no_grad():
            self.embeddings = self.stage.network.embed(self.batch)

    def __call__(self) -> float:
        """One pass; the cross-entropy."""
        llm = self.stage.network.llm
        self.stage.zero_grad()
        loss = self.read(llm, llm(self.embeddings.clone().requires_grad_(), self.batch.lengths()))
        loss.backward()
        return float(loss.detach())

    def read(self, llm: CausalLM, hidden: Tensor) -> Tensor:
        """The loss of the hidden states."""
        mask, labels = shifted_labels(self.batch.labels)
        return F.cross_entropy(llm.logits(hidden[mask]).float(), labels)


class WithoutHead(Bare):
    """The LLM's layers alone, forward and backward."""

    def read(self, llm: CausalLM, hidden: Tensor) -> Tensor:
        """Any sum that reaches all states."""
        return hidden.square().mean()


class ProjectionsAlone(Ours):
    """The output projections' own forward, backward and optimizer step: the limit of stage 2 with frozen rows."""

    def prepare(self) -> None:
        """States at the signal tokens, and targets."""
        network, self.given = self.stage.network, dict[Modality, tuple[Tensor, ...]]()
        with torch.no_grad():
            embeddings = network.embed(self.batch)
            hidden = network.hidden_states(self.batch, embeddings)
        for modality, spans in self.batch.spans.items():
            decoder = network.decoders[modality]
            states = [network.at_signals(modality, s, spans) for s in (hidden, embeddings)]
            target = decoder.embed_captions(spans.captions).view(-1, *decoder.projection_shape)
            self.given[modality] = (*states, target)

    def loss(self) -> Tensor:
        """The distances."""
        loss = torch.zeros(())
        for modality, (hidden, embeddings, target) in self.given.items():
            predicted = self.stage.network.project_signals(modality, hidden, embeddings)
            loss = loss + (predicted - target).square().mean()
        return loss


KINDS: dict[str, Callable[[Setting], Ours]] = {"ours": Ours, "reference": Reference}
