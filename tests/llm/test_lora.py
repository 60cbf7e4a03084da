"""LoRA that is handed over frozen is a fixed part of the LLM."""

from functools import partial

import pytest
import tiny
import torch

from nextgpt_pl.errors import UserError
from nextgpt_pl.features import FeatureCache
from nextgpt_pl.llm import LoRA
from nextgpt_pl.pipeline import AnyToAny
from nextgpt_pl.projections import TransformerOutputProjection
from nextgpt_pl.stages import DecoderAlignment, InstructionTuning

_LORA = LoRA(r=2, alpha=64, dropout=0.5)


@pytest.fixture
def tuned(tiny_models, tmp_path):
    """An adapter with LoRA whose updates are not zero."""
    stage = InstructionTuning(tiny.network(tiny_models), lora=_LORA, samples=0)
    stage.configure_model()
    with torch.no_grad():
        for name, parameter in stage.network.llm.named_parameters():
            if "lora_B" in name:
                parameter.normal_()
    stage.save_adapter(tmp_path / "adapter")
    return tmp_path / "adapter"


def _batch(data):
    return next(iter(data.train_dataloader()))


def _aligning(tiny_models, adapter, cache=None):
    _, data = tiny.stage_and_data("DecoderAlignment", tiny_models, 4)
    network = tiny.network(tiny_models, cache)
    stage = DecoderAlignment(network, samples=0, train_signal_rows=False, init_from=adapter)
    return stage, data.with_renderer(stage.renderer)


def _dropouts(network):
    return [module for name, module in network.llm.named_modules() if name.endswith("lora_dropout.default")]


def test_two_readings_by_a_frozen_lora_agree_whatever_the_mode(tiny_models, tuned):
    stage, data = _aligning(tiny_models, tuned)
    stage.configure_model()
    batch = _batch(data)
    assert _dropouts(stage.network)
    stage.train(True)
    stage.network.train(True)
    stage.network.llm.train(True)
    assert not any(module.training for module in _dropouts(stage.network))
    with torch.no_grad():
        readings = [stage.network.hidden_states(batch, stage.network.embed(batch)) for _ in range(2)]
    assert torch.equal(*readings)


def test_what_is_remembered_is_no_random_reading(tiny_models, tuned, tmp_path):
    """As ``cache`` fills it: without Lightning's hooks."""
    found = []
    for name in ("one", "two"):
        stage, data = _aligning(tiny_models, tuned, FeatureCache(tmp_path / name, "float32"))
        batch = _batch(data)
        stage.fill_cache(batch, torch.device("cpu"))
        found.append(stage.signal_states(batch))
    assert torch.equal(found[0].text_loss, found[1].text_loss)
    for modality, states in found[0].at_signals.items():
        assert torch.equal(states, found[1].at_signals[modality])


def test_dropout_of_a_lora_that_trains_follows_the_mode(tiny_models, tuned):
    stage = InstructionTuning(tiny.network(tiny_models), lora=_LORA, samples=0, init_from=tuned)
    stage.configure_model()
    for mode in (True, False, True):
        stage.train(mode)
        assert {module.training for module in _dropouts(stage.network)} == {mode}
        assert not stage.network.llm.model.model.layers[0].mlp.training


def test_a_frozen_projection_has_no_dropout_either(tiny_models):
    network = tiny.network(tiny_models)
    network.output_projection_factory = partial(TransformerOutputProjection, width=16, layers=1, heads=2, dropout=0.5)
    network.load()
    for name, projection in network.output_projections.items():
        projection.requires_grad_(name == "image")
    network.train(True)
    training = {name: {m.training for m in p.modules()} for name, p in network.output_projections.items()}
    assert training == {"image": {True}, "video": {False}, "audio": {False}}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_merged_updates_compute_the_same_states_and_are_saved_as_they_were(tiny_models, tuned, dtype):
    stage, data = _aligning(tiny_models, tuned)
    stage.configure_model()
    llm, batch = stage.network.llm.eval(), _batch(data)
    layer = next(m for name, m in llm.named_modules() if name.endswith("q_proj"))
    for name, parameter in llm.named_parameters():
        if "lora_" not in name:
            parameter.data = parameter.data.to(getattr(torch, dtype))
    embeddings = stage.network.embed(batch).to(getattr(torch, dtype))
    kept = {name: value.clone() for name, value in llm.state_dict().items() if "lora_" in name}
    before, states = layer.base_layer.weight.clone(), llm(embeddings)
    llm.merge_lora()
    merged = dtype == "float32"
    assert layer.merged is merged
    assert torch.equal(layer.base_layer.weight, before) is not merged
    torch.testing.assert_close(llm(embeddings), states, atol=1e-3, rtol=1e-3)  # the updates are large
    assert all(torch.equal(value, llm.state_dict()[name]) for name, value in kept.items())


def test_a_run_that_is_loaded_to_reply_has_merged_updates():
    network = AnyToAny.from_run().network
    layers = [module for module in network.llm.model.modules() if hasattr(module, "merged_adapters")]
    assert layers
    assert all(layer.merged for layer in layers)


def test_a_layer_that_is_missing_is_named_though_another_one_is_there(tiny_models):
    network = tiny.network(tiny_models)
    network.load()
    message = r"LlamaForCausalLM has no layer qkv_proj, dense; its layers are down_proj, gate_proj, k_proj, o_proj"
    with pytest.raises(UserError, match=message):
        network.llm.add_lora(LoRA(target_modules=["qkv_proj", "o_proj", "dense"]))
    assert not [name for name, _ in network.named_parameters() if "lora_" in name]
