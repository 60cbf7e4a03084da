"""Compiled layers and projections compute what eager ones do."""

import shutil
from functools import partial

import pytest
import tiny
import torch

from nextgpt_pl.llm import CausalLM
from nextgpt_pl.projections import MLPOutputProjection
from nextgpt_pl.utils.compiled import compile_layers, compile_module

needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="compiling for the CPU takes a C++ compiler")


def _llm(tiny_models, **options):
    torch.manual_seed(0)
    llm = CausalLM(str(tiny_models / "llm"), **options)
    llm.load(2)
    return llm


def _graphs():
    return torch._dynamo.utils.counters["stats"]["unique_graphs"]


@pytest.mark.long
@needs_compiler
def test_a_compiled_layer_gives_the_same_states_and_gradients_and_is_eager_with_a_cache(tiny_models):
    eager, compiled = _llm(tiny_models), _llm(tiny_models)
    compile_layers(compiled.blocks()[:1])
    embeddings = [torch.randn(2, 9, 32).requires_grad_() for _ in range(2)]
    with torch.no_grad():
        embeddings[1].copy_(embeddings[0])
    torch._dynamo.utils.counters.clear()
    states = [llm(e) for llm, e in zip((eager, compiled), embeddings, strict=True)]
    for found in states:
        found.square().sum().backward()
    graphs = _graphs()
    assert graphs >= 1
    torch.testing.assert_close(*states, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(embeddings[1].grad, embeddings[0].grad, rtol=1e-3, atol=1e-4)
    ids = torch.arange(6)[None]
    replies = [llm.model.generate(ids, max_new_tokens=3, do_sample=False) for llm in (eager, compiled)]
    assert torch.equal(*replies)
    assert _graphs() == graphs


@pytest.mark.long
@needs_compiler
def test_a_compiled_projection_gives_the_same_numbers_under_the_same_names():
    torch.manual_seed(0)
    projection = MLPOutputProjection(8, 3, 2, 4, width=8)
    states = [torch.randn(2, 3, 8) for _ in range(2)]
    names, expected = projection.state_dict().keys(), projection(*states)
    torch._dynamo.utils.counters.clear()
    compile_module(projection)
    torch.testing.assert_close(projection(*states), expected, rtol=1e-4, atol=1e-5)
    assert _graphs() >= 1
    assert projection.state_dict().keys() == names


def test_the_switches_reach_every_layer_and_projection(tiny_models, monkeypatch):
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda function, **options: compiled.append(options) or function)
    llm = _llm(tiny_models, compile=True)
    assert compiled == [{"dynamic": True}] * len(llm.blocks())
    network = tiny.network(tiny_models)
    network.compile_projections = True
    called = []
    monkeypatch.setattr("nextgpt_pl.projections.build.compile_module", called.append)
    network.load()
    assert called == [*network.output_projections.values(), *network.input_projections.values()]


def test_nothing_is_compiled_by_default(tiny_models, monkeypatch):
    monkeypatch.setattr(torch, "compile", partial(pytest.fail, "compiled"))
    monkeypatch.setattr("nextgpt_pl.projections.build.compile_module", partial(pytest.fail, "compiled"))
    tiny.network(tiny_models).load()
