"""Tiny random LLMs of published families, saved as folders."""

from pathlib import Path

import pytest
import torch
import trained_tokenizers
import transformers
from llm_families import FAMILIES, Family

from nextgpt_pl.llm import CausalLM, LoRA

_SIZES = {
    "initializer_range": 0.3,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
# families that have no part that no other one has
LIKE_OTHERS = ("Command R", "Llama 3", "OLMo 2", "OLMo 3", "Phi-4", "SmolLM2")


def support(column, *, without=(), slow=()):
    """A cell of each family, some of which are computed in slow tests only."""
    names = [pytest.param(n, marks=pytest.mark.slow if n in slow else ()) for n in FAMILIES if n not in without]
    return lambda test: pytest.mark.support("llms", column)(pytest.mark.parametrize("name", names)(test))


def make_tokenizer(family: Family, folder: Path):
    """The tokenizer of a family, with the vocabulary of a small one."""
    trained = family.prefix
    tokenizer = trained_tokenizers.make("llama", folder) if trained else CausalLM("pocket:llm").tokenizer
    tokenizer.add_special_tokens({"additional_special_tokens": list(family.special)})
    tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token = family.bos, family.eos, family.pad
    tokenizer.chat_template = family.template
    return tokenizer


def save_family(name: str, folder: Path) -> None:
    """Save a tiny random LLM of a family; its weights are large, so that replies vary."""
    family = FAMILIES[name]
    tokenizer = make_tokenizer(family, folder)
    ids = [tokenizer.convert_tokens_to_ids(token) for token in (family.end, *family.also_ends)]
    config = getattr(transformers, f"{family.kind}Config")(
        vocab_size=len(tokenizer) + family.unused_rows,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=ids[0],
        pad_token_id=tokenizer.pad_token_id,
        **_SIZES,
        **family.config,
    )
    torch.manual_seed(0)
    model = getattr(transformers, f"{family.kind.removesuffix('Text')}ForCausalLM")(config)
    model.generation_config.eos_token_id = ids
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def lora_of(name: str) -> LoRA:
    """Small updates of the layers of a family."""
    return LoRA(r=2, alpha=4, dropout=0.0, target_modules=list(FAMILIES[name].lora))


def folder_of(name: str, root: Path, encoder: Path) -> Path:
    """A folder with the LLM of a family in ``llm``, saved once, and an encoder, as ``tiny.network`` reads it."""
    folder = root / name.replace(" ", "-")
    if not folder.exists():
        (folder / "llm").mkdir(parents=True)
        save_family(name, folder / "llm")
        (folder / "encoder").symlink_to(encoder)
    return folder


def in_double(llm: CausalLM) -> CausalLM:
    """Use numbers so precise that only a real difference shows, except where the masks of a model are of float32."""
    return llm if llm.pretrained.attention == "eager" else llm.double()
