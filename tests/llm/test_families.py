"""What folders of published families have or lack: end tokens, padding tokens, weights, other media, attention."""

import json

import pytest
import torch
from llm_families import FAMILIES
from safetensors.torch import load_file, save_file
from saved_llms import save_family

from nextgpt_pl.errors import UserError
from nextgpt_pl.llm import CausalLM

_NOT_CONFIGURED = ("Gemma 3", "Phi-3", "OLMo 3")  # the tokenizer's end token does not end a turn


@pytest.mark.parametrize("name", _NOT_CONFIGURED)
def test_the_token_that_the_template_writes_ends_a_reply(name, tmp_path):
    save_family(name, tmp_path)
    (tmp_path / "generation_config.json").unlink()
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "eos_token_id": None}))
    llm = CausalLM(str(tmp_path))
    llm.load(1)
    ends = llm.tokenizer.convert_ids_to_tokens(list(llm.end_ids))
    assert sorted(ends) == sorted({FAMILIES[name].end, FAMILIES[name].eos})


def test_text_behind_a_reply_is_no_end_token(tmp_path):
    save_family("SmolLM2", tmp_path)
    template = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n###\n{% endfor %}"
    llm = CausalLM(str(tmp_path), chat_template=template)
    llm.load(1)
    assert llm.tokenizer.convert_ids_to_tokens(list(llm.end_ids)) == ["<|im_end|>"]


def test_a_tokenizer_without_padding_and_end_tokens_pads_with_another(tmp_path):
    save_family("Granite", tmp_path)
    file = tmp_path / "tokenizer_config.json"
    known = {key: value for key, value in json.loads(file.read_text()).items() if not key.endswith("_token")}
    file.write_text(json.dumps(known))
    tokenizer = CausalLM(str(tmp_path)).tokenizer
    assert tokenizer.eos_token is None
    assert tokenizer.pad_token_id == 0


def test_weights_that_are_missing_are_named(tmp_path):
    save_family("Llama 3", tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"its files lack 1 weights, such as model\.layers\.1\.mlp\.up_proj\.weight"):
        CausalLM(str(tmp_path)).load(1)


def test_a_model_of_other_media_is_refused_by_its_type(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gemma3"}))
    with pytest.raises(UserError, match=r"a gemma3 model also reads other media.*of type gemma3_text"):
        CausalLM(str(tmp_path)).config  # noqa: B018


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_an_attention_that_a_model_does_not_have_is_refused(device, tmp_path):
    save_family("Gemma 2", tmp_path)
    with torch.device(device):
        llm = CausalLM(str(tmp_path))
        with pytest.raises(UserError, match=r"llm\.attention='sdpa': .* set llm\.attention=eager"):
            llm.load(1)


def test_extra_tokens_of_a_scaled_and_tied_embedding(tmp_path):
    save_family("Gemma 3", tmp_path)
    llm = CausalLM(str(tmp_path), extra_tokens=["<Img>", "</Img>"])
    llm.load(3)
    ids = torch.arange(llm.vocab_size - 4, llm.vocab_size + 3)
    embedding = llm.model.get_input_embeddings()
    whole = torch.cat([embedding.base.weight, embedding.rows])
    torch.testing.assert_close(llm.embed(ids), whole[ids] * llm.hidden_size**0.5)
    assert llm.model.get_output_embeddings().base.weight is embedding.base.weight
