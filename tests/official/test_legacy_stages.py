"""The three legacy stages: an imported checkpoint in our stages gives the official losses and gradients."""

import json

import pytest
import torch
from golden_official import assert_golden
from official_losses import legacy_token_accuracy, spans_in_labels
from safetensors.torch import load_file

from nextgpt_pl.batches import Batch, MediaSlot, SpanTargets
from nextgpt_pl.modality import GENERATED, Modality
from nextgpt_pl.samples import Media
from nextgpt_pl.stages import DecoderAlignment, EncoderAlignment, InstructionTuning

CLOSE = {"rtol": 1e-5, "atol": 2e-5}
STAGE_3 = ["TextToImage", "TextToVideo", "TextToAudio", "ImageToText", "TextToText"]
PREFIX = {
    "image": "gen_text_hidden_fcs.0.",
    "video": "gen_text_hidden_fcs_video.0.",
    "audio": "gen_text_hidden_fcs_audio.0.",
}


class Golden:
    """One case: what went into the official step and what came out."""

    def __init__(self, official, name):
        folder = official / "legacy_stage2_loss"
        everything = json.loads((folder / "expected.json").read_text())
        self.expected, self.config = everything[name], everything["config"]
        numbers = load_file(folder / f"{name.split('.')[0]}_io.safetensors")
        self.numbers = {k.removeprefix(f"{name}."): v for k, v in numbers.items() if k.startswith(f"{name}.")}

    def batch(self, network) -> Batch:
        """The official sequence: BOS, the prompt in front, a medium if there is one, the text."""
        features = self.numbers.get("imagebind_embedding")
        prompt = self.config["prompt_before_text_only" if features is None else "prompt_before_with_media"]
        count = len(self.numbers["input_ids"])
        front = [self.config["bos"], *prompt, *([] if features is None else [0])]
        ids = torch.cat([torch.tensor([front] * count), self.numbers["input_ids"]], dim=1)
        labels = self.numbers["wrapped.targets"]
        batch = Batch(ids, self.numbers["wrapped.attention_mask"].bool(), labels)
        assert batch.labels.shape == ids.shape
        for row, feature in enumerate([] if features is None else features):
            media = Media(Modality.IMAGE, lambda feature=feature: feature[None].numpy())
            slot = MediaSlot(Modality.IMAGE, len(front) - 1, len(front), media)
            batch.slots.setdefault(Modality.IMAGE, []).append((row, slot))
        for modality, span in network.span_ids().items():
            rows, starts = spans_in_labels(labels, span)
            if len(rows):
                targets = list(self.numbers["caption_embeddings"].float())
                batch.spans[modality] = SpanTargets(rows, starts, [""] * len(rows), targets)
        return batch

    def check_states(self, network, batch):
        hidden = network.hidden_states(batch, network.embed(batch))
        valid = batch.attention_mask
        assert_golden(hidden, self.numbers, "last_hidden_state", valid, **CLOSE)
        accuracy = legacy_token_accuracy(network.llm.logits(hidden), batch.labels)
        assert accuracy.item() == pytest.approx(self.expected["token_accuracy"], abs=1e-7)
        for modality, spans in batch.spans.items():
            predicted = network.project(modality, hidden, network.embed(batch), spans)
            assert_golden(predicted[:1], self.numbers, "projected_first_sample", **CLOSE)


def _vocabulary_trains(network):
    """The official code trains every row of the vocabulary: its gradient norms are those of the whole matrix."""
    layers = {
        "embed_tokens": network.llm.model.get_input_embeddings(),
        "lm_head": network.llm.model.get_output_embeddings(),
    }
    for layer in layers.values():
        layer.requires_grad_(True)
    return layers


def _norm(parameters):
    return torch.stack([p.grad.norm() for p in parameters if p.grad is not None]).norm().item()


def _gradients(network, layers):
    """Norms by official names."""
    found = {
        "llama_model.model.embed_tokens.weight": _norm(layers["embed_tokens"].parameters()),
        "llama_model.lm_head.weight": _norm(layers["lm_head"].parameters()),
    }
    for name, parameter in network.input_projections["all"].named_parameters():
        if parameter.grad is not None:
            found[f"llama_proj.{name.removeprefix('linear.')}"] = _norm([parameter])
    for modality, prefix in PREFIX.items():
        for name, parameter in network.output_projections[modality].named_parameters():
            if parameter.grad is not None:
                found[prefix + name] = _norm([parameter])
    return found


@pytest.mark.parametrize("medium", GENERATED)
def test_stage_1(official, legacy_network, legacy_adapter, medium):
    golden = Golden(official, f"stage1.{medium}")
    stage = EncoderAlignment(legacy_network, captions=0, init_from=legacy_adapter(2))
    stage.configure_model()
    layers = _vocabulary_trains(stage.network)
    batch = golden.batch(stage.network)
    golden.check_states(stage.network, batch)
    loss = stage.model_step(batch, "train")
    assert loss.item() == pytest.approx(golden.expected["loss"], rel=1e-5)
    loss.backward()
    found = _gradients(stage.network, layers)
    assert {k: found[k] for k in golden.expected["grad_norms"]} == pytest.approx(
        golden.expected["grad_norms"], rel=1e-4
    )
    weight = stage.network.input_projections["all"].linear.weight.grad
    torch.testing.assert_close(weight, golden.numbers["grad.llama_proj.weight"], **CLOSE)


@pytest.mark.parametrize("medium", GENERATED)
def test_stage_2(official, legacy_network, legacy_adapter, medium):
    golden = Golden(official, f"stage2.{medium}")
    stage = DecoderAlignment(legacy_network, alignment="l2", samples=0, init_from=legacy_adapter(2))
    stage.configure_model()
    layers = _vocabulary_trains(stage.network)
    batch = golden.batch(stage.network)
    golden.check_states(stage.network, batch)
    total = stage.model_step(batch, "train")
    assert total.item() == pytest.approx(golden.expected["total_loss"], rel=1e-5)
    stage.text_weight = 0.0
    assert stage.model_step(batch, "train").item() == pytest.approx(golden.expected["mse_loss"], rel=1e-5)
    total.backward()
    found = _gradients(stage.network, layers)
    assert {k: found[k] for k in golden.expected["grad_norms"]} == pytest.approx(
        golden.expected["grad_norms"], rel=1e-4
    )
    whole = _norm(p for p in stage.network.parameters() if p.requires_grad)
    assert whole == pytest.approx(golden.expected["grad_norm_total"], rel=1e-4)
    weight = stage.network.output_projections[medium.value].fc.weight.grad
    torch.testing.assert_close(weight, golden.numbers[f"grad.{PREFIX[medium.value]}fc.weight"], **CLOSE)


@pytest.mark.parametrize("case", STAGE_3)
def test_stage_3(official, legacy_network, legacy_adapter, case):
    golden = Golden(official, f"stage3.{case}")
    stage = InstructionTuning(
        legacy_network, alignment="l2", alignment_weights={"video": 2.0}, samples=0, init_from=legacy_adapter(3)
    )
    stage.lora.dropout = 0.1
    stage.configure_model()
    stage.network.eval()
    _vocabulary_trains(stage.network)
    batch = golden.batch(stage.network)
    golden.check_states(stage.network, batch)
    total = stage.model_step(batch, "train")
    assert total.item() == pytest.approx(golden.expected["total_loss"], rel=1e-5)
    total.backward()
    lora = [p for name, p in stage.network.named_parameters() if "lora_" in name]
    assert len(lora) == 24
    assert _norm(lora) == pytest.approx(golden.expected["grad_norm_lora"], rel=1e-4)


def test_the_checkpoint_brings_the_vocabulary(official, legacy_network, legacy_adapter):
    """The base model's own rows are noise here: without those of the checkpoint no number above would be right."""
    legacy_network.load()
    before = legacy_network.llm.word_embeddings().clone()
    from nextgpt_pl.adapter import load_adapter

    load_adapter(legacy_adapter(2), legacy_network)
    golden = load_file(official / "legacy_stage2_loss" / "tiny_llama.safetensors")
    after = torch.cat([legacy_network.llm.word_embeddings(), legacy_network.llm.model.get_input_embeddings().rows])
    torch.testing.assert_close(after, golden["model.embed_tokens.weight"].float(), atol=0, rtol=0)
    assert not torch.allclose(before, after[:642])
