"""LLM families: packed and divided passes have the states of one padded pass; the loss is the model's own."""

import pytest
import torch
import torch.nn.functional as F
from llm_families import FAMILIES
from saved_llms import in_double, support

from nextgpt_pl.errors import UserError
from nextgpt_pl.llm import CausalLM

_RECURRENT = ("LFM2",)


def _pass(families, name, **options):
    """States and gradients of the signal rows, of a batch of rows of different length."""
    path = families(name) / "llm"
    torch.manual_seed(0)
    llm = CausalLM(str(path), **{**FAMILIES[name].llm, **options})
    llm.load(4)
    in_double(llm)
    generator = torch.Generator().manual_seed(1)
    lengths = [40, 25, 60, 9, 33]
    mask = torch.arange(60) < torch.tensor(lengths).unsqueeze(1)
    ids = torch.randint(0, llm.vocab_size, mask.shape, generator=generator)
    ids[:, 5::3] = torch.randint(llm.vocab_size, llm.vocab_size + 4, ids[:, 5::3].shape, generator=generator)
    states = llm(llm.embed(ids), lengths, [5] * 5)
    weights = torch.randn(states.shape, generator=generator).to(states.dtype)
    (states * weights)[mask].sum().backward()
    return states.detach()[mask], llm.model.get_input_embeddings().rows.grad


def _same(found, others):
    assert found[1].abs().max() > 1e-3
    for ours, theirs in zip(found, others, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


@support("packed equals padded", without=_RECURRENT)
def test_packed_rows_have_the_states_of_padded_ones(name, families):
    _same(_pass(families, name), _pass(families, name, packing=True))


@support("frozen prefix, length groups")
def test_divided_passes_have_the_states_of_one(name, families):
    _same(_pass(families, name), _pass(families, name, frozen_prefix=True, length_groups=2))


@pytest.mark.parametrize("name", _RECURRENT)
def test_layers_that_would_mix_packed_rows_are_refused(name, families):
    llm = CausalLM(str(families(name) / "llm"), packing=True)
    with pytest.raises(UserError, match=r"llm\.packing=true: Lfm2ForCausalLM .* layers \(conv\).*llm\.length_groups"):
        llm.load(4)


@pytest.mark.parametrize("name", ["Mistral", "Phi-3"])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_packed_rows_keep_their_window(name, attention, families):
    """With two layers of windows of 16 tokens, a state depends on 30 earlier tokens and on no others."""
    llm = CausalLM(str(families(name) / "llm"), packing=True, attention=attention)
    llm.load(4)
    ids = torch.arange(4 * 40).view(4, 40)
    lengths = [40, 20, 12, 20]
    with torch.no_grad():
        states = llm(llm.embed(ids), lengths)
        ids[0, 8] += 1
        changed = llm(llm.embed(ids), lengths)
    moved = (states[0] - changed[0]).abs().amax(-1) > 1e-5
    assert moved[8:38].all()
    assert not moved[:8].any()
    assert not moved[39]
    torch.testing.assert_close(states[1:, :12], changed[1:, :12])


@support("loss of its own logits")
def test_the_loss_is_that_of_the_models_logits(name, families):
    llm = CausalLM(str(families(name) / "llm"), **FAMILIES[name].llm)
    llm.load(4)
    ids = torch.cat([torch.randint(0, llm.vocab_size, (2, 20)), llm.vocab_size + torch.arange(8).view(2, 4) % 4], 1)
    embeddings = llm.embed(ids)
    torch.testing.assert_close(embeddings, _embedded(llm, ids))
    loss, _ = llm.cross_entropy(llm(embeddings)[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
    logits = llm.model(input_ids=ids).logits[:, :-1].flatten(0, 1)
    assert logits.shape[-1] == llm.vocab_size + 4
    torch.testing.assert_close(loss, F.cross_entropy(logits, ids[:, 1:].flatten(), reduction="sum"))


def _embedded(llm, ids):
    """As one matrix with the signal tokens' rows embeds them."""
    embedding = llm.model.get_input_embeddings()
    whole = torch.cat([embedding.base.weight, embedding.rows])
    scale = llm.hidden_size**0.5 if llm.config.model_type.startswith("gemma") else 1.0
    return whole[ids] * scale
