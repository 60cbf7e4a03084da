"""Every projection of both official code bases, imported by the table of names, against its recorded output."""

import json
import re

import pytest
import torch
from golden_official import assert_golden
from safetensors.torch import load_file

from nextgpt_pl.modality import Modality
from nextgpt_pl.official.parts import sizes_of
from nextgpt_pl.official.read import Official, map_state

CLOSE = {"rtol": 1e-5, "atol": 2e-5}
V2 = {"image": "img", "video": "vid", "audio": "aud"}
PREFIX = {
    "legacy": {m: f"gen_text_hidden_fcs{s}.0." for m, s in (("image", ""), ("video", "_video"), ("audio", "_audio"))},
    "v2": {m: f"model.mm_output_{n}_projector." for m, n in V2.items()},
}


def _imported(kind, state, medium=None, **arguments):
    """The projection that a checkpoint's tensors make, with their values: a medium's output one, or the input one."""
    official = Official(kind, lora={"alpha": 1, "dropout": 0.0})
    map_state(official, state, "golden")
    sizes = sizes_of(official.tensors, kind, official.lora)
    part = sizes.output_projections[Modality(medium)] if medium else sizes.input_projection
    module = part.kind(*part.widths, **{**part.arguments, **arguments})
    prefix = f"output_projections.{medium}." if medium else "input_projections.all."
    tensors = {k.removeprefix(prefix): v.float() for k, v in official.tensors.items() if k.startswith(prefix)}
    module.load_state_dict(tensors)
    return module.eval()


def _run(module, *inputs):
    with torch.no_grad():
        return module(*inputs)


@pytest.mark.parametrize("medium", V2)
def test_legacy_transformers(official, medium):
    folder = official / "legacy_output_projection_transformer"
    numbers = load_file(folder / "io_tiny.safetensors")
    module = _imported("legacy", load_file(folder / "checkpoint_stage2_fp16.safetensors"), medium)
    out = _run(module, numbers[f"{medium}.hidden_states"], numbers[f"{medium}.input_embeddings"])
    assert_golden(out, numbers, f"{medium}.output", **CLOSE)


def test_legacy_linear(official):
    folder = official / "legacy_output_projection_transformer"
    numbers = load_file(folder / "io_tiny.safetensors")
    module = _imported("legacy", load_file(folder / "checkpoint_stage3_fp16.safetensors"))
    out = _run(module, numbers["llama_proj.input"][:, None])[:, 0]
    torch.testing.assert_close(out, numbers["llama_proj.output"], **CLOSE)


@pytest.mark.parametrize("medium", V2)
def test_v2_transformers(official, medium):
    folder = official / "v2_projectors"
    numbers = load_file(folder / "io_tiny.safetensors")
    module = _imported("v2", load_file(folder / "mm_output_projector_bf16.safetensors"), medium)
    name = f"transformer.{medium}"
    out = _run(module, numbers[f"{name}.hidden_states"], numbers[f"{name}.input_embeddings"])
    assert_golden(out, numbers, f"{name}.output", **CLOSE)


@torch.no_grad()
def _assignments(module, features):
    """The group of each token, per grouping stage: ``(N, E)``, then ``(N, groups of the previous stage)``."""
    x, tokens, indices = module.in_fc(features), None, []
    for stage in module.layers:
        x, tokens, attention = stage(x, tokens, output_attentions=True)
        if attention is not None:
            indices.append(attention.argmax(1))
    return indices


def test_v2_grouping(official):
    folder = official / "v2_projectors"
    numbers = load_file(folder / "io_tiny.safetensors")
    module = _imported("v2", load_file(folder / "mm_input_projector_bf16.safetensors"))
    chosen = _assignments(module, numbers["group.input"])
    assert [c.tolist() for c in chosen] == [numbers[f"group.assignment_{i}"].tolist() for i in (0, 1)]
    assert_golden(_run(module, numbers["group.input"]), numbers, "group.output", **CLOSE)


@pytest.mark.parametrize("name", ["mlp", "linear"])
def test_v2_small_input_projections(official, name):
    folder = official / "v2_projectors"
    numbers = load_file(folder / "io_tiny.safetensors")
    module = _imported("v2", load_file(folder / f"mm_input_projector_{name}.safetensors"))
    torch.testing.assert_close(_run(module, numbers[f"{name}.input"]), numbers[f"{name}.output"], **CLOSE)


def test_v2_qformer(official):
    folder = official / "v2_projectors"
    numbers = load_file(folder / "io_tiny.safetensors")
    heads = json.loads((folder / "meta.json").read_text())["cases"]["qformer"]["bert_config_tiny"][
        "num_attention_heads"
    ]
    module = _imported("v2", load_file(folder / "mm_output_img_projector_qformer.safetensors"), "image", heads=heads)
    out = _run(module, numbers["qformer.hidden_states"], numbers["qformer.input_embeddings"])
    assert_golden(out, numbers, "qformer.output", **CLOSE)


def _full(layout, path, prefix, made_parameter):
    for name in path:
        layout = layout[name]
    return {key: made_parameter(key, tuple(shape)) for key, shape in layout.items() if key.startswith(prefix)}


def test_numbers_made_by_the_formula_are_the_golden_ones(official, made_parameter, made_input):
    for folder in ("legacy_output_projection_transformer", "v2_projectors"):
        for key, values in json.loads((official / folder / "meta.json").read_text())["procedural_probe"].items():
            kind, name, sides = re.match(r"(\w+) (\S+) \(([\d,]+)\)", key).groups()
            shape = tuple(int(side) for side in sides.split(","))
            made = made_parameter(name, shape) if kind == "param" else made_input(name, shape, 1.5)
            assert made.flatten()[:4].tolist() == pytest.approx(values, abs=1e-9)


@pytest.mark.parametrize("medium", V2)
@pytest.mark.parametrize("kind", ["legacy", "v2"])
def test_transformers_of_full_size(official, layout, made_parameter, made_input, kind, medium):
    name = medium if kind == "legacy" else V2[medium]
    folder, case, path = {
        "legacy": ("legacy_output_projection_transformer", name, ("legacy", "stage_3", "keys")),
        "v2": ("v2_projectors", f"transformer.{name}", ("new_style", "pretrain_dec_final", "mm_output_projector.bin")),
    }[kind]
    meta = json.loads((official / folder / "meta.json").read_text())["full_size"][case]
    state = _full(layout, path, PREFIX[kind][medium], made_parameter)
    assert sum(t.numel() for t in state.values()) == meta["n_params"]
    module = _imported(kind, state, medium)
    prefix = f"full.{medium}" if kind == "legacy" else f"full.v2.{name}"
    states = made_input(f"{prefix}.hidden", tuple(meta["input_shape"]), 1.5)
    embeddings = made_input(f"{prefix}.input_embs", tuple(meta["input_shape"]), 0.3)
    numbers = load_file(official / folder / "io_full_size_procedural.safetensors")
    assert_golden(_run(module, states, embeddings), numbers, f"{case}.output", **CLOSE)


def test_grouping_of_full_size(official, layout, made_parameter, made_input):
    path = ("new_style", "pretrain_enc_final", "mm_input_projector.bin")
    module = _imported("v2", _full(layout, path, "model.mm_input_projector.", made_parameter))
    assert sum(p.numel() for p in module.parameters()) == 53_144_912
    features = made_input("full.v2.group.x", (1, 256, 1024))
    expected = load_file(official / "v2_projectors" / "io_full_size_procedural.safetensors")
    chosen = _assignments(module, features)
    assert [c.tolist() for c in chosen] == [expected[f"group.assignment_{i}"].tolist() for i in (0, 1)]
    assert_golden(_run(module, features), expected, "group.output", **CLOSE)
