"""Every key that each official stage writes for the real 7B model has its place in ours."""

import json
from functools import partial

import pytest
import torch
from safetensors.torch import load_file

from nextgpt_pl.decoders.base import PrecomputedEmbeddings
from nextgpt_pl.encoders import ImageBindEncoder
from nextgpt_pl.encoders.imagebind import ImageBindConfig, ImageBindModel
from nextgpt_pl.llm import CausalLM, LoRA
from nextgpt_pl.model import NextGPT
from nextgpt_pl.official.keys import EXTRA_TOKENS, to_official
from nextgpt_pl.official.parts import sizes_of
from nextgpt_pl.official.read import Official, map_state

VICUNA = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "vocab_size": 32000,
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "tie_word_embeddings": False,
}


def _keys(layout, *path):
    for name in path:
        layout = layout[name]
    return layout


CASES = {
    "legacy stages 1 and 2": ("legacy", ("legacy", "stage_1_and_2", "keys"), 391),
    "legacy stage 3": ("legacy", ("legacy", "stage_3", "keys"), 647),
    "v2 encoder side": ("v2", ("new_style", "pretrain_enc_final", "mm_input_projector.bin"), 228),
    "v2 decoder side": ("v2", ("new_style", "pretrain_dec_final", "mm_output_projector.bin"), 389),
    "v2 in between": ("v2", ("new_style", "pretrain_enc_intermediate_checkpoint", "mm_input_projector.bin"), 227),
    "v2 LoRA": ("v2", ("new_style", "finetune_final", "adapter_model.safetensors"), 448),
    "v2 the rest": (
        "v2",
        (
            "new_style",
            "finetune_final",
            "non_lora_trainables.bin (if the four projectors and the embeddings/head are trainable)",
        ),
        615,
    ),
}


def _mapped(kind, keys):
    official = Official(kind, lora={"alpha": 32, "dropout": 0.1})
    map_state(official, {name: torch.empty(shape, device="meta") for name, shape in keys.items()}, "layout")
    return official, sizes_of(official.tensors, kind, official.lora)


def _network(kind, sizes, folder):
    (folder / "config.json").write_text(json.dumps(VICUNA))
    output = next(iter(sizes.output_projections.values()), None)
    network = NextGPT(
        llm=CausalLM(str(folder), extra_tokens=list(EXTRA_TOKENS[kind])),
        decoders={m.value: PrecomputedEmbeddings(shape) for m, shape in sizes.embedding_shapes().items()},
        output_projection=partial(output.kind, **output.arguments) if output else None,
        encoder=ImageBindEncoder("imagebind_huge.pth", patches=kind == "v2") if sizes.input_projection else None,
        input_projection=sizes.input_projection
        and partial(sizes.input_projection.kind, **sizes.input_projection.arguments),
        share_input_projection=True,
    )
    with torch.device("meta"):
        network.load()
        if sizes.lora:
            network.llm.add_lora(LoRA(**sizes.lora))
    return network


@pytest.mark.parametrize("case", CASES)
def test_every_key_of_the_real_model_is_mapped(layout, tmp_path, case):
    kind, path, count = CASES[case]
    keys = _keys(layout, *path)
    official, sizes = _mapped(kind, keys)
    assert len(official.mapping) == len(keys) == count
    parameters = dict(_network(kind, sizes, tmp_path).named_parameters())
    assert {k: t.shape for k, t in official.tensors.items()} == {k: parameters[k].shape for k in official.tensors}
    back = {name: list(tensor.shape) for name, tensor in to_official(official.tensors, kind).items()}
    if case == "v2 the rest":  # these names are those of a model with LoRA, which lies in the file beside it
        back = {f"base_model.model.{name}": shape for name, shape in back.items()}
    assert back == keys


def test_what_our_stage_3_trains_is_all_there(layout, tmp_path):
    """Nothing that the network would train is left at its start value by an import of the last legacy stage."""
    official, sizes = _mapped("legacy", _keys(layout, *CASES["legacy stage 3"][1]))
    network = _network("legacy", sizes, tmp_path)
    for part in ("input_projections", "output_projections"):
        wanted = {name for name, _ in network.named_parameters() if name.startswith(part)}
        assert wanted <= set(official.tensors)
    assert {n for n, _ in network.named_parameters() if "lora_" in n or n.endswith(".rows")} <= set(official.tensors)
    assert sum(t.numel() for t in official.tensors.values()) == layout["legacy"]["stage_3"]["n_params"]


def test_the_optional_qformer_projection(layout):
    keys = layout["legacy"]["optional_qformer_projection"]["keys"]
    official, sizes = _mapped("legacy", keys)
    (part,) = sizes.output_projections.values()
    assert part.arguments == {"width": 768, "layers": 2, "heads": 12, "feedforward": 3072}
    assert sum(p.numel() for p in part.build().parameters()) == 22_701_312
    assert {k: list(t.shape) for k, t in to_official(official.tensors, "legacy").items()} == keys


def test_imagebind_has_the_same_keys_and_shapes(layout):
    with torch.device("meta"):
        state = ImageBindModel(ImageBindConfig.huge()).state_dict()
    assert {k: list(v.shape) for k, v in state.items()} == layout["imagebind_huge"]["keys"]


@pytest.mark.parametrize("name", ["mm_input_projector_mlp", "mm_input_projector_linear"])
def test_the_smaller_input_projections(official, name):
    weights = load_file(official / "v2_projectors" / f"{name}.safetensors")
    found, sizes = _mapped("v2", {k: list(v.shape) for k, v in weights.items()})
    assert sizes.input_projection.widths == (48, 64)
    assert set(to_official(found.tensors, "v2")) == set(weights)
