"""QLoRA: layers of 4 bits that are frozen, under updates that train, on the CPU."""

import importlib.util

import pytest
import tiny
import torch

from nextgpt_pl.errors import UserError
from nextgpt_pl.generation.decoding import Decoding
from nextgpt_pl.generation.generate import generate
from nextgpt_pl.llm import CausalLM
from nextgpt_pl.pipeline import AnyToAny
from nextgpt_pl.stages import InstructionTuning

_NF4 = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True}
needs_bitsandbytes = pytest.mark.skipif(
    importlib.util.find_spec("bitsandbytes") is None, reason="needs the extra qlora: pip install -e '.[qlora]'"
)


@pytest.fixture
def folder(tmp_path, tiny_models):
    """A Llama of 64 columns, which is the size of a block, and an encoder."""
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_key_value_heads": 4}
    tiny.save_llama(tmp_path / "llm", **sizes, initializer_range=0.3)
    (tmp_path / "encoder").symlink_to(tiny_models / "encoder")
    return tmp_path


def _reply(network):
    chat = AnyToAny(network)
    prompt = chat.prompt([{"role": "user", "content": "Draw a red circle."}], 16)
    return generate(network, [prompt], Decoding(max_new_tokens=16))[0]


def _gradients(stage):
    llm = stage.network.llm
    llm.zero_grad()
    llm(llm.embed(torch.arange(40).view(2, 20))).square().sum().backward()
    return {name: p.grad.clone() for name, p in llm.named_parameters() if "lora_" in name}


@needs_bitsandbytes
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_instruction_tuning_of_four_bits(folder, dtype):
    options = {"quantization": _NF4, "dtype": dtype}
    stage, data = tiny.stage_and_data("InstructionTuning", folder, 4, train_size=2, **options)
    stage.configure_model()
    layers = [layer for layer in stage.network.llm.modules() if type(layer).__name__ == "Linear4bit"]
    frozen = [layer.weight for layer in layers if hasattr(layer, "quant_state")]
    assert len(frozen) == 2 * 7
    assert {weight.dtype for weight in frozen} == {torch.uint8}
    before = [weight.clone() for weight in frozen]
    precision = {"precision": "bf16-mixed"} if dtype == "bfloat16" else {}
    tiny.quiet_trainer(folder, max_steps=3, limit_val_batches=0, **precision).fit(stage, datamodule=data)
    assert all(torch.equal(*pair) for pair in zip(before, frozen, strict=True))
    gradients = _gradients(stage)
    assert all(gradient.isfinite().all() and gradient.any() for gradient in gradients.values())

    stage.save_adapter(folder / "adapter")
    lora = {"lora": stage.lora, "samples": 0, "init_from": folder / "adapter"}
    again = InstructionTuning(tiny.network(folder, **options), **lora)
    again.configure_model()
    replies = [_reply(one.network) for one in (stage, again)]
    assert replies[0].ids == replies[1].ids
    assert torch.equal(replies[0].states, replies[1].states)
    # replies repack weights on some CPUs; training goes on behind them
    for name, gradient in _gradients(stage).items():
        torch.testing.assert_close(gradient, gradients[name], atol=2e-2 * float(gradient.abs().max()), rtol=2e-2)


@needs_bitsandbytes
def test_four_bits_are_near_the_weights(folder):
    states = []
    for quantization in (None, _NF4):
        torch.manual_seed(0)
        llm = CausalLM(str(folder / "llm"), quantization=quantization)
        llm.load(4)
        with torch.no_grad():
            states.append(llm(llm.embed(torch.arange(40).view(2, 20))).flatten(0, 1))
    assert not torch.equal(*states)
    assert torch.cosine_similarity(*states).mean() > 0.7


def test_the_extra_is_named_without_the_package(folder, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "bitsandbytes" else found(name))
    with pytest.raises(UserError, match=r"llm\.quantization needs bitsandbytes: pip install 'nextgpt-pl\[qlora\]'"):
        CausalLM(str(folder / "llm"), quantization=_NF4).load(4)


@needs_bitsandbytes
def test_an_unknown_key_is_named(folder):
    with pytest.raises(UserError, match=r"llm\.quantization\.load_in_4bits: no such key.*load_in_4bit"):
        CausalLM(str(folder / "llm"), quantization={"load_in_4bits": True}).load(4)
