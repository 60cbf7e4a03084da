"""Ids of signal tokens are never those of other tokens, whatever the sizes of tokenizer and embedding."""

import json

import pytest
import tiny
from llm_families import FAMILIES
from saved_llms import folder_of, save_family
from transformers import AutoTokenizer

from nextgpt_pl.errors import UserError
from nextgpt_pl.llm import CausalLM


def _with_more_tokens(folder, *tokens):
    """An LLM whose tokenizer has tokens without rows."""
    save_family("SmolLM2", folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    rows = len(tokenizer)
    tokenizer.add_tokens(list(tokens))
    tokenizer.save_pretrained(folder)
    return rows


@pytest.mark.parametrize("name", [name for name, family in FAMILIES.items() if family.unused_rows])
def test_signal_tokens_follow_the_unused_rows(name, tmp_path, tiny_models):
    network = tiny.network(folder_of(name, tmp_path, tiny_models / "encoder"), **FAMILIES[name].llm)
    network.load()
    llm = network.llm
    signals = [i for ids in network.signal_ids().values() for i in ids]
    rows = llm.model.get_input_embeddings().base.num_embeddings
    assert rows == len(llm.tokenizer) + FAMILIES[name].unused_rows
    assert signals == list(range(rows, rows + len(signals)))
    assert not set(signals) & {*llm.tokenizer.get_vocab().values(), *llm.end_ids}


def test_a_token_without_a_row_is_refused_and_can_be_given_one(tmp_path):
    rows = _with_more_tokens(tmp_path, "[PAD]")
    message = rf"gives '\[PAD\]' the id {rows}, .* rows 0 to {rows - 1}, .*; set llm\.extra_tokens=\['\[PAD\]'\]"
    with pytest.raises(UserError, match=message):
        CausalLM(str(tmp_path)).tokenizer  # noqa: B018
    llm = CausalLM(str(tmp_path), extra_tokens=["[PAD]"])
    assert llm.tokenizer("[PAD]", add_special_tokens=False).input_ids == [rows]
    assert llm.vocab_size == rows + 1


def test_many_tokens_without_rows_are_of_another_model(tmp_path):
    rows = _with_more_tokens(tmp_path, *(f"<{i}>" for i in range(20)))
    with pytest.raises(UserError, match=rf"'<19>' the id {rows + 19}, .*use the tokenizer that belongs to the weights"):
        CausalLM(str(tmp_path)).tokenizer  # noqa: B018


def test_extra_tokens_behind_unused_rows_are_refused(tmp_path):
    save_family("Qwen2.5", tmp_path)
    with pytest.raises(
        UserError, match=r"extra_tokens=\['<Img>'\] get the ids .*has 7 rows that the tokenizer does not"
    ):
        CausalLM(str(tmp_path), extra_tokens=["<Img>"]).tokenizer  # noqa: B018


def test_an_end_token_behind_the_rows_is_refused(tmp_path):
    save_family("SmolLM2", tmp_path)
    file = tmp_path / "generation_config.json"
    rows = CausalLM(str(tmp_path)).vocab_size
    file.write_text(json.dumps({**json.loads(file.read_text()), "eos_token_id": [2, rows]}))
    llm = CausalLM(str(tmp_path))
    llm.load(1)
    with pytest.raises(
        UserError, match=rf"eos_token_id=\[2, {rows}\] has {rows}, but the LLM's ids are 0 to {rows - 1}"
    ):
        llm.end_ids  # noqa: B018
