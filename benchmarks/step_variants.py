"""Variants of training steps for the benchmark: the package's step, a plain reference and two limits, on random models.

The reference computes as the official code: it runs the encoder and its preprocessing in every step, sample by sample,
computes logits of all positions, keeps all hidden states, gathers signal tokens sample by sample, and trains the full
embedding and head in stage 2.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from nextgpt_pl.batches import Batch
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

STAGES = ("enc_align", "dec_align", "instruct")
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
}
TOWERS = {"vision": TowerConfig(640, 9, 10), "audio": TowerConfig(512, 7, 8, scale=20.0)}


def save_models(folder: Path, llm: str) -> None:
    """Random weights, the same for all that are compared."""
    from safetensors.torch import save_file
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    tokenizer = CausalLM("pocket:llm").tokenizer
    config = LlamaConfig(**LLMS[llm], eos_token_id=tokenizer.eos_token_id, tie_word_embeddings=llm == "smol")
    LlamaForCausalLM(config).save_pretrained(folder / "llm")
    tokenizer.save_pretrained(folder / "llm")
    encoder = ImageBindConfig(1024, TOWERS)
    (folder / "encoder").mkdir()
    encoder.to_json(folder / "encoder" / "config.json")
    save_file(dict(ImageBindModel(encoder).state_dict()), folder / "encoder" / "model.safetensors")


def build_stage(name: str, folder: Path, cache: FeatureCache | None = None, denoising: float = 0.0) -> Stage:
    """A stage of ours on the random models; in stage 2 the signal rows are frozen, so that states can be remembered.

    ``denoising`` is the weight of stage 2's denoising error.
    """
    torch.manual_seed(0)
    network = NextGPT(
        llm=CausalLM(str(folder / "llm")),
        encoder=ImageBindEncoder(str(folder / "encoder"), video_clips=5, audio_clips=3)
        if name != "dec_align"
        else None,
        input_projection=LinearInputProjection if name != "dec_align" else None,
        decoders={m.value: pocket_decoder(m) for m in GENERATED} if name != "enc_align" else {},
        output_projection=partial(TransformerOutputProjection, width=128, layers=2, heads=4, dropout=0.0),
        cache=cache,
    )
    stage: Stage
    if name == "enc_align":
        stage = EncoderAlignment(network, captions=0)
    elif name == "dec_align":
        weights = {m.value: denoising for m in GENERATED}
        stage = DecoderAlignment(network, samples=0, train_signal_rows=False, denoising_weights=weights)
    else:
        stage = InstructionTuning(network, lora=LoRA(r=16, alpha=16, dropout=0.0), samples=0)
    stage.configure_model()
    stage.log_split = lambda *_: None  # type: ignore[method-assign]
    stage.eval()
    return stage


def make_batch(name: str, stage: Stage, per_modality: int) -> Batch:
    """Equal numbers of each medium, shown in stages 1 and 3 and made in stages 2 and 3."""
    render = stage.renderer
    if name == "instruct":
        routes = ("image->video", "video->text", "audio->image")
        rows = [render(dialogues.dialogue(route, "train", i)) for route in routes for i in range(per_modality)]
    else:
        rows = [render(items.captioned_pair("train", m, i)) for m in GENERATED for i in range(per_modality)]
    return pad(rows, render.pad_token_id)


class Ours:
    """The stage's own step, with its optimizer."""

    def __init__(self, name: str, folder: Path, per_modality: int, cache: FeatureCache | None = None) -> None:
        self.stage = build_stage(name, folder, cache)
        self.batch = make_batch(name, self.stage, per_modality)
        self.optimizer = torch.optim.AdamW(self.stage.parameter_groups(), lr=1e-6)
        self.prepare()

    def prepare(self) -> None:
        """What is done once, before any step."""

    def forget(self) -> None:
        """As without a cache."""
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
    """What the official code does with the same weights and the same batch."""

    def prepare(self) -> None:
        """In stage 2, the whole vocabulary trains."""
        network = self.stage.network
        if type(self.stage) is DecoderAlignment:  # the official code trains embedding and head whole
            table, head = network.llm.model.get_input_embeddings(), network.llm.model.get_output_embeddings()
            for layer in (table, head):
                layer.requires_grad_(True)
            whole = {id(p): p for layer in (table, head) for p in layer.parameters()}
            self.optimizer.add_param_group({"params": list(whole.values())})

    def _embeddings(self) -> Tensor:
        network, rows = self.stage.network, []
        tokens = network.llm.embed(self.batch.input_ids)
        for row in range(len(self.batch)):
            embedded = tokens[row]
            for modality, slots in self.batch.slots.items():
                for _, slot in (entry for entry in slots if entry[0] == row):
                    assert network.encoder is not None
                    with torch.no_grad():
                        feature = network.encoder(modality, network.encoder.prepare(slot.media)[None])
                    shown = network.input_projection(modality)(feature)[0]
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
            distances = []
            for row, start, caption in zip(spans.rows.tolist(), spans.starts.tolist(), spans.captions, strict=True):
                place = slice(start, start + len(network.span_ids()[modality]))
                hidden, ids = out.hidden_states[-1][row, place], embeddings[row, place]
                predicted = network.project_signals(modality, hidden[None], ids[None])
                decoder = network.decoders[modality]
                target = decoder.embed_captions([caption]).view(1, *decoder.projection_shape)
                distances.append((predicted - target).square().mean())
            loss = loss + weights[modality] * torch.stack(distances).mean()
        return loss


class Bare(Ours):
    """The LLM alone, forward and backward."""

    def prepare(self) -> None:
        """The embeddings, media and all."""
        with torch.no_grad():
            self.embeddings = self.stage.network.embed(self.batch)

    def __call__(self) -> float:
        """One pass; the cross-entropy."""
        llm = self.stage.network.llm
        self.stage.zero_grad()
        embeddings = self.embeddings.clone().requires_grad_()
        mask, labels = shifted_labels(self.batch.labels)
        loss = F.cross_entropy(llm.logits(llm(embeddings)[mask]).float(), labels)
        loss.backward()
        return float(loss.detach())


class ProjectionsAlone(Ours):
    """The output projections' own forward, backward and optimizer step: the limit of stage 2 with remembered states."""

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


KINDS: dict[str, Callable[..., Ours]] = {"ours": Ours, "reference": Reference, "bare": Bare, "alone": ProjectionsAlone}
