from types import SimpleNamespace

import pytest
import torch
from tiny import network as tiny_network
from torch import nn

from nextgpt_pl.dialogue.batching import pad
from nextgpt_pl.llm import LoRA, packing
from nextgpt_pl.llm.packing import first_fit_decreasing, packed_pass, smallest_bins
from nextgpt_pl.modality import Modality
from nextgpt_pl.pocket.world import dialogues, items
from nextgpt_pl.stages import DecoderAlignment, EncoderAlignment, InstructionTuning


@pytest.mark.parametrize(
    ("lengths", "capacity", "bins"),
    [
        ([3, 9, 4, 2], 9, [[1], [2, 0, 3]]),
        ([5, 5, 5], 5, [[0], [1], [2]]),
        ([1, 1, 1, 7], 7, [[3], [0, 1, 2]]),
        ([4], 9, [[0]]),
    ],
)
def test_longest_rows_are_placed_first_where_they_fit(lengths, capacity, bins):
    assert first_fit_decreasing(lengths, capacity) == bins


class Base(nn.Module):
    """Stands in for a transformer: records its inputs, and returns its embeddings."""

    def __init__(self, implementation):
        super().__init__()
        self.config, self.calls = SimpleNamespace(_attn_implementation=implementation), []

    def forward(self, inputs_embeds, **inputs):
        self.calls.append((inputs_embeds, inputs))
        return SimpleNamespace(last_hidden_state=inputs_embeds)


@pytest.mark.parametrize(
    "lengths", [[28] * 6, [25, 30, 28, 27, 31, 29, 24] * 5, [300, 20, 30, 40, 50, 60], [7], [200, 199]]
)
def test_packed_rows_are_never_larger_than_padded_ones_allow(lengths):
    bins = smallest_bins(lengths)
    assert sorted(item for items in bins for item in items) == list(range(len(lengths)))
    packed = len(bins) * max(sum(lengths[item] for item in items) for items in bins)
    assert sum(lengths) <= packed <= min(1.25 * sum(lengths) + 1, len(lengths) * max(lengths)) or len(lengths) < 3


@pytest.mark.parametrize("implementation", ["sdpa", "eager", "flash_attention_2", "flex_attention"])
def test_tokens_come_back_to_their_places(implementation, monkeypatch):
    monkeypatch.setattr(packing, "_SHORTEST", 1)
    lengths = [4, 9, 1, 3]
    embeddings = torch.arange(4 * 9 * 2.0).view(4, 9, 2)
    base = Base(implementation)
    states = packed_pass(base, embeddings, lengths)
    for row, length in enumerate(lengths):
        assert torch.equal(states[row, :length], embeddings[row, :length])
    ((packed, inputs),) = base.calls
    assert inputs["position_ids"].max() == 8
    if implementation in ("sdpa", "eager"):
        assert packed.shape == (2, 9, 2)
        allowed = inputs["attention_mask"] if implementation == "sdpa" else inputs["attention_mask"] == 0
        # the second row holds 4 + 3 + 1 tokens, and one of padding
        sizes = [block.sum().item() for block in (allowed[0, 0], allowed[1, 0])]
        assert sizes == [9 * 10 / 2, 4 * 5 / 2 + 3 * 4 / 2 + 1 + 1]
        assert allowed.any(-1).all(), "a token that attends to nothing is not a number"
    else:
        assert packed.shape == (1, 17, 2)
        assert "attention_mask" not in inputs


def test_rows_that_do_not_fit_together_stay_as_they_are(monkeypatch):
    monkeypatch.setattr(packing, "_SHORTEST", 1)
    base, embeddings = Base("sdpa"), torch.rand(2, 5, 3)
    assert torch.equal(packed_pass(base, embeddings, [5, 4]), embeddings)
    assert base.calls[0][1] == {"use_cache": False}


def _rows(stage):
    render = stage.renderer
    if isinstance(stage, InstructionTuning):
        routes = ("text->text", "image->video", "text->image+audio", "image+text->image", "brief", "question")
        return [render(dialogues.dialogue(route, "train", number)) for number, route in enumerate(routes)]
    kinds = (Modality.IMAGE, Modality.VIDEO, Modality.AUDIO) * 8
    return [render(items.captioned_pair("train", kind, number)) for number, kind in enumerate(kinds)]


@pytest.mark.parametrize("kind", [EncoderAlignment, DecoderAlignment, InstructionTuning])
def test_losses_and_gradients_of_a_stage_are_those_without_packing(kind, tiny_models):
    found, widths = [], []
    for packs in (False, True):
        options = {"lora": LoRA(r=2, alpha=4, dropout=0.0)} if kind is InstructionTuning else {}
        stage = kind(tiny_network(tiny_models, packing=packs), **options)
        stage.configure_model()
        stage.quality, stage.log_split = {}, lambda *_: None
        stage.network.llm.double()
        base = stage.network.llm.model.base_model
        base.register_forward_hook(lambda _, __, out: widths.append(tuple(out.last_hidden_state.shape[:2])))
        loss = stage.model_step(pad(_rows(stage), 0), "train")
        loss.backward()
        gradients = {name: p.grad for name, p in stage.trainable().items() if p.grad is not None}
        found.append((loss.detach(), gradients))
    (loss, gradients), (packed_loss, packed_gradients) = found
    (rows, total), (packed_rows, width) = widths
    assert packed_rows < rows
    assert packed_rows * width < rows * total
    assert float(packed_loss) == pytest.approx(float(loss), rel=1e-6)
    assert packed_gradients.keys() == gradients.keys() != set()
    for name, gradient in gradients.items():
        torch.testing.assert_close(
            packed_gradients[name], gradient, atol=1e-6, rtol=1e-5, msg=lambda m, n=name: f"{n}: {m}"
        )
