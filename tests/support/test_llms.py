"""LLM families of the transformers library, as tiny random instances: training in all stages, and adapters."""

import tiny
import torch
from llm_families import FAMILIES
from saved_llms import LIKE_OTHERS, lora_of, support

from nextgpt_pl.stages import InstructionTuning

_QUICK = ("Gemma 3", "Phi-3")  # the others are trained in slow tests
_SLOW = tuple(set(FAMILIES) - set(_QUICK))


def _stage(kind, name, families):
    stage, data = tiny.stage_and_data(kind, families(name), 4, train_size=2, **FAMILIES[name].llm)
    if kind == "InstructionTuning":
        stage = InstructionTuning(stage.network, lora=lora_of(name), samples=0, lr=1e-2, warmup_ratio=0.0)
    return stage, data


def _trains(kind, name, families, expected):
    stage, data = _stage(kind, name, families)
    stage.configure_model()
    before = {key: p.detach().clone() for key, p in stage.network.named_parameters()}
    losses = []
    step = stage.model_step
    stage.model_step = lambda *args: losses.append(step(*args)) or losses[-1]
    tiny.quiet_trainer(families(name), max_steps=3, limit_val_batches=0).fit(stage, datamodule=data)
    assert len(losses) == 3
    assert torch.stack(losses).isfinite().all()
    parts = {key.partition(".")[0] if "llm" not in key else key for key in stage.trainable()}
    assert parts == expected
    changed = {key for key, p in stage.network.named_parameters() if not torch.equal(p, before[key])}
    assert changed <= set(stage.trainable())
    assert {key.partition(".")[0] if "llm" not in key else key for key in changed} == expected
    assert all(p.dtype == torch.float32 for p in stage.trainable().values())


def _rows(name, families):
    network = tiny.network(families(name), **FAMILIES[name].llm)
    network.load()
    return {key for key, _ in network.named_parameters() if key.startswith("llm.") and key.endswith(".rows")}


@support("stage 1", slow=_SLOW)
def test_encoder_alignment_trains(name, families):
    _trains("EncoderAlignment", name, families, {"input_projections"})


@support("stage 2", slow=_SLOW)
def test_decoder_alignment_trains(name, families):
    _trains("DecoderAlignment", name, families, {"output_projections", *_rows(name, families)})


@support("stage 3 with LoRA", slow=_SLOW)
def test_instruction_tuning_trains(name, families):
    stage, _ = _stage("InstructionTuning", name, families)
    stage.configure_model()
    updates = {key for key, _ in stage.network.named_parameters() if "lora_" in key}
    layers = {key.split(".lora_")[0] for key in updates}
    assert {layer.rpartition(".")[2] for layer in layers} == set(FAMILIES[name].lora)
    trained = {"input_projections", "output_projections", *updates, *_rows(name, families)}
    _trains("InstructionTuning", name, families, trained)


@support("adapter round trip", slow=LIKE_OTHERS)
def test_a_saved_adapter_is_read_with_the_same_states(name, families, tmp_path):
    stage, _ = _stage("InstructionTuning", name, families)
    stage.configure_model()
    with torch.no_grad():
        for key, parameter in stage.network.named_parameters():
            if "lora_B" in key or key.endswith(".rows"):
                parameter.normal_()
    stage.save_adapter(tmp_path / "adapter")
    again = InstructionTuning(
        tiny.network(families(name), **FAMILIES[name].llm),
        lora=lora_of(name),
        samples=0,
        init_from=tmp_path / "adapter",
    )
    again.configure_model()
    ids = torch.arange(12).view(2, 6) + stage.network.llm.vocab_size - 6
    found = []
    for llm in (stage.network.llm.eval(), again.network.llm.eval()):
        with torch.no_grad():
            states = llm(llm.embed(ids))
            found.append((states, llm.logits(states.flatten(0, 1))))
    assert torch.equal(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])
