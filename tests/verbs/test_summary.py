from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

from nextgpt_pl.__main__ import main
from nextgpt_pl.modality import Modality
from nextgpt_pl.sizing import budget, costs
from nextgpt_pl.sizing.budget import Workload
from nextgpt_pl.sizing.measure import Cost
from nextgpt_pl.training.cli import build_model
from nextgpt_pl.verbs.summary import in_paper_form, parameter_lines

EXPERIMENTS = Path(__file__).parent.parent.parent / "experiments"


@pytest.fixture(autouse=True)
def _nothing_around(tmp_path, monkeypatch):
    """No network, no data, no weights, another folder."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.delenv("NEXTGPT_DATA", raising=False)
    monkeypatch.chdir(tmp_path)


def _stage(name, *arguments):
    stage, _ = build_model(["-c", str(EXPERIMENTS / name), *arguments])
    with torch.device("meta"):
        stage.configure_model()
    return stage


def _work(**changes):
    return Workload(**{"batch": 2, "tokens": 64, "labels": 16, "gpus": 1, "strategy": "replicated", **changes})


@pytest.mark.parametrize(
    ("version", "joint", "trained", "total", "exact"),
    [
        ("paper_v1", 4_198_400, 131, 12.41, 133_590_272),
        ("paper", 28_649_232, 155, 12.43, 158_041_104),
    ],
)
def test_the_papers_sizes_part_by_part(version, joint, trained, total, exact):
    """Each part, cut to whole millions as the paper cuts, is the paper's number; so are both sums."""
    network = _stage(f"{version}/instruct.yaml").network
    lines = parameter_lines(network)
    rows = {line[:28].rstrip(): line[28:].split() for line in lines if line[28:44].strip().replace(",", "").isdigit()}
    compared = {name: columns for name, columns in rows.items() if len(columns) == 3}
    assert len(compared) == 10
    assert compared.pop("llm") == ["6,738,415,616", "6.7B", "7B"]
    assert all(cut == paper for _, cut, paper in compared.values())
    assert compared["input projections"][0] == f"{joint:,}"
    text = "\n".join(lines)
    assert f"the paper trains {trained}M of {total}B" in text
    assert f"ours cut alike: {trained}M of {total}B" in text
    assert f"not cut: {exact:,} of " in text
    assert f"trainable in this stage: {exact + 294_912:,} of " in text


def test_numbers_are_cut_as_in_the_paper():
    cut = [in_paper_form(n) for n in (31_958_784, 975_082_866, 1_370_216_895, 999, 1_200_781_057)]
    assert cut == ["31M", "975M", "1.3B", "0M", "1.2B"]


@pytest.mark.slow
def test_the_papers_model(capsys):
    assert main(["summary", "-c", str(EXPERIMENTS / "paper" / "instruct.yaml"), "--gpus", "4"]) == 0
    printed = capsys.readouterr().out
    for part in (
        "memory on each of 4 GPUs (replicated), 4 rows of 512 tokens",
        "fake tensors",
        "fits 80 GB",
        "TFLOP",
        "cache of",
    ):
        assert part in printed


def test_operations_of_the_llm_are_two_per_weight_and_token_and_pass():
    network = _stage("paper_v1/dec_align.yaml", "--model.network.llm.gradient_checkpointing=false").network
    found = costs.llm_cost(network, batch=1, tokens=128, labels=1)
    layers = sum(p.numel() for n, p in network.llm.named_parameters() if ".layers." in n and p.ndim == 2)
    assert found.forward == pytest.approx(2 * layers * 128, rel=0.02)
    # frozen weights have no gradient: backward costs what forward does, but for attention
    assert found.backward == pytest.approx(found.forward, rel=0.02)


def test_layers_are_alike_and_checkpointing_trades_operations_for_memory():
    network = _stage("dec_align.yaml").network
    llm = network.llm

    def states():
        inputs = torch.empty(2, 64, llm.hidden_size, device="meta", requires_grad=True)
        return llm.model.base_model(inputs_embeds=inputs, use_cache=False).last_hidden_state

    found = costs.llm_cost(network, 2, 64, 32)
    with costs.countable(network.llm.model):
        whole = costs._with_layers(llm.model.base_model, 99, partial(costs.measure, states, llm))
    head = 2 * 32 * llm.hidden_size * (llm.vocab_size + 36)
    assert found.forward - whole.forward == head
    llm.gradient_checkpointing = True
    less = costs.llm_cost(network, 2, 64, 32)
    assert less.kept < 0.6 * found.kept
    assert less.forward == found.forward
    assert less.backward == found.backward + whole.forward


def test_what_a_linear_layer_costs():
    layer = torch.nn.Linear(8, 4, bias=False, device="meta")

    def step():
        return layer(torch.empty(3, 8, device="meta")).square()

    # twice forward: the input needs no gradient; kept are its input and its output, float32
    found = costs.measure(step, layer)
    assert replace(found, passing=0) == Cost(2 * 3 * 8 * 4, 2 * 3 * 8 * 4, 4 * (3 * 8 + 3 * 4))
    # beside them the gradients of the output and of what was squared, the sum and its own gradient
    assert 4 * 3 * 4 < found.passing < 4 * 6 * 3 * 4


def test_encoders_cost_by_clips():
    network = _stage("enc_align.yaml").network
    found = costs.encoder_costs(network)
    assert found[Modality.VIDEO].forward == 4 * found[Modality.IMAGE].forward
    assert all(cost.backward == cost.kept == 0 for cost in found.values())


def test_memory_is_divided_where_it_is_sharded():
    stage = _stage("instruct.yaml")
    network, trains = stage.network, sum(p.numel() for p in stage.trainable().values())
    found = budget.step_costs(network, _work())
    whole, shared = (
        budget.memory(network, trains, found, _work(gpus=4, strategy=s)) for s in ("replicated", "sharded")
    )
    assert whole["trainables, gradients, AdamW"] == 16 * trains
    assert shared["LLM, frozen"] == whole["LLM, frozen"] // 4
    assert whole["encoder"] == 4 * shared["encoder"] == sum(p.numel() for p in network.encoder.parameters()) * 4
    assert shared["text encoders, float32"] == whole["text encoders, float32"]
    assert whole["all"] == sum(size for name, size in whole.items() if name != "all")


def test_four_bits_are_a_little_more_than_half_a_byte():
    network = _stage("paper/instruct_24gb.yaml").network
    layers = 32 * (4 * 4096 * 4096 + 3 * 4096 * 11_008)
    rest = 2 * 32_000 * 4096 + 65 * 4096  # embedding, head, norms
    assert budget.frozen_llm_bytes(network) == pytest.approx(layers * 4.127 / 8 + 2 * rest)


def test_hours_and_disk():
    network = _stage("paper_v1/enc_align.yaml").network
    work = _work(gpus=2, items={"image": 1000, "text": 10}, made=False)
    # 1010 samples of 1e12 operations at 1e12 per second and GPU, half of which is reached
    assert budget.hours({"text": 10**12, "image": 10**12}, work, 1.0, 0.5) == pytest.approx(1010 / 3600)
    assert budget.cache_bytes(network, work) == {"encoder features": 1000 * 1024 * 2}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--labels", "900"], "--labels 900: no more than the 512 tokens"),
        (["--items", "smell=3"], "--items: 'smell' is none of image, video"),
        (["--items", "3"], "--items '3': give MODALITY=NUMBER"),
        (["--model.lrr=1"], "model.lrr: no such key"),
        (["--gpu-memory=40"], "gpu-memory: no such key; did you mean 'gpu_memory'?"),
        (["--gpus=many"], "gpus: int or null is expected, got 'many'"),
        (["--strategy=ddp"], "strategy: one of 'replicated', 'sharded' or null is expected, got 'ddp'"),
    ],
)
def test_mistakes_are_named(arguments, message, capsys):
    assert main(["summary", "-c", str(EXPERIMENTS / "enc_align.yaml"), *arguments]) == 2
    assert message in capsys.readouterr().err


def test_summary_needs_a_yaml(capsys):
    assert main(["summary", "--help"]) == 0
    assert "--gpu_memory GPU_MEMORY" in capsys.readouterr().out
    assert main(["summary", "--gpus", "4"]) == 2
    assert "summary: give the YAML: -c FILE" in capsys.readouterr().err
