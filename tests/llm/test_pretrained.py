"""Reading folders as they are published: tokenizers of every format, and how long a row may be."""

import json
from pathlib import Path

import pytest
import torch
from trained_tokenizers import train_sentencepiece
from transformers import LlamaConfig, LlamaForCausalLM

from nextgpt_pl.errors import UserError
from nextgpt_pl.llm import CausalLM

TEMPLATE = "{% for m in messages %}{{ m.role }}: {{ m.content }}</s>{% endfor %}"


@pytest.fixture
def folder(tmp_path):
    """A Llama's ``config.json`` and ``tokenizer.model``, and nothing else."""
    train_sentencepiece(tmp_path)
    return tmp_path


def test_what_reads_sentencepiece_models_is_a_dependency():
    project = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    dependencies = project.split("dependencies = [")[1].split("\n]\n")[0]
    assert '"sentencepiece>=' in dependencies


def test_a_folder_with_a_sentencepiece_model_alone_is_read(folder):
    import sentencepiece

    config = LlamaConfig(
        vocab_size=450, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    assert sorted(path.name for path in folder.glob("token*")) == ["tokenizer.model"]
    llm = CausalLM(str(folder), chat_template=TEMPLATE, extra_tokens=["<Img>"])
    reference = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    for text in ("Draw a small red circle", "  two blanks\nand 円 é 12", "ASSISTANT: It is red"):
        assert llm.tokenizer(text, add_special_tokens=False).input_ids == reference.encode(text)
    assert llm.tokenizer.eos_token_id == reference.eos_id() == llm.tokenizer.pad_token_id
    llm.load(4)
    states = llm(llm.embed(torch.tensor([[450, 454, 5]])), torch.ones(1, 3))
    assert states.shape == (1, 3, 16)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("tokenizer.model", b"nonsense" * 100, "not a SentencePiece model.*download tokenizer.model again"),
        ("tokenizer.model", b"", "download tokenizer.model again"),
        ("tokenizer.model", None, "no tokenizer file there; expected one of tokenizer.json, tokenizer.model"),
        ("tokenizer.json", b"{}", "cannot be read.*download tokenizer.json, tokenizer.model again"),
        ("tokenizer_config.json", b"{broken", "cannot be read.*download tokenizer.model, tokenizer_config.json again"),
    ],
)
def test_a_tokenizer_that_is_missing_or_damaged_is_named(folder, name, content, message):
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(content)
    with pytest.raises(UserError, match=message) as error:
        CausalLM(str(folder), chat_template=TEMPLATE).tokenizer  # noqa: B018
    assert str(folder) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_cut_off_sentencepiece_model_is_damaged(folder):
    whole = (folder / "tokenizer.model").read_bytes()
    (folder / "tokenizer.model").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="not a SentencePiece model"):
        CausalLM(str(folder), chat_template=TEMPLATE).tokenizer  # noqa: B018


@pytest.mark.parametrize(
    ("config", "length"),
    [
        ({"model_type": "llama", "max_position_embeddings": 512}, 512),
        ({"model_type": "gpt2", "n_positions": 256}, 256),
        # vicuna-7b-v1.5-16k
        (
            {"model_type": "llama", "max_position_embeddings": 4096, "rope_scaling": {"type": "linear", "factor": 4}},
            16384,
        ),
        (
            {
                "model_type": "llama",
                "max_position_embeddings": 131072,
                "rope_scaling": {
                    "rope_type": "llama3",
                    "factor": 8.0,
                    "low_freq_factor": 1.0,
                    "high_freq_factor": 4.0,
                    "original_max_position_embeddings": 8192,
                },
            },
            131072,
        ),
        ({"model_type": "bloom"}, None),
        ({"model_type": "mamba"}, None),
    ],
)
def test_how_long_a_row_may_be(tmp_path, config, length):
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert CausalLM(str(tmp_path)).context_length == length
