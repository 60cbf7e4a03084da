"""Import and export of official checkpoints: bit-equal round trips, and refusals that say what is wrong."""

import json
from collections import OrderedDict

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from torch import nn

from nextgpt_pl.__main__ import main
from nextgpt_pl.adapter import read_manifest, write_adapter
from nextgpt_pl.errors import UserError
from nextgpt_pl.official.export import export_official
from nextgpt_pl.official.keys import to_official
from nextgpt_pl.official.read import import_official, read_official
from nextgpt_pl.projections import GroupingInputProjection, TransformerOutputProjection

ROWS, WIDTH = 60, 16


def _renamed(module, prefix, **names):
    renamed = {}
    for key, value in module.state_dict().items():
        first, _, rest = key.partition(".")
        renamed[f"{prefix}{names.get(first, first)}{'.' if rest else ''}{rest}"] = value
    return renamed


def legacy_state(*, lora: bool = False) -> dict[str, torch.Tensor]:
    """A small checkpoint of the legacy format, of random numbers."""
    torch.manual_seed(0)
    llama = "llama_model.base_model.model." if lora else "llama_model."
    state = {
        f"{llama}model.embed_tokens.weight": torch.randn(ROWS, WIDTH),
        f"{llama}lm_head.weight": torch.randn(ROWS, WIDTH),
        "llama_proj.weight": torch.randn(WIDTH, 8),
        "llama_proj.bias": torch.randn(WIDTH),
    }
    for suffix, tokens, length, dim in (("", 4, 5, 6), ("_video", 24, 5, 7), ("_audio", 8, 1, 9)):
        projection = TransformerOutputProjection(WIDTH, tokens, length, dim, width=8, layers=1, heads=4)
        state |= _renamed(projection, f"gen_text_hidden_fcs{suffix}.0.")
    for layer in range(2 if lora else 0):
        for name in ("q_proj", "v_proj"):
            key = f"{llama}model.layers.{layer}.self_attn.{name}.lora_"
            state |= {f"{key}A.default.weight": torch.randn(3, WIDTH), f"{key}B.default.weight": torch.randn(WIDTH, 3)}
    return state


def v2_state() -> dict[str, torch.Tensor]:
    """The MLP and the vocabulary of a small encoder-side checkpoint."""
    torch.manual_seed(0)
    sizes = {"layer.0.weight": (WIDTH, 8), "layer.0.bias": (WIDTH,), "layer.2.weight": (WIDTH, WIDTH)}
    state = {f"model.mm_input_projector.{k}": torch.randn(v) for k, v in {**sizes, "layer.2.bias": (WIDTH,)}.items()}
    return {**state, "model.embed_tokens.weight": torch.randn(ROWS, WIDTH), "lm_head.weight": torch.randn(ROWS, WIDTH)}


def _save(state, path, dtype=torch.float16):
    torch.save(OrderedDict((k, nn.Parameter(v.to(dtype))) for k, v in state.items()), path)
    return path


def _same(one, other):
    assert set(one) == set(other)
    assert all(one[k].dtype == other[k].dtype and torch.equal(one[k], other[k]) for k in one)


@pytest.mark.parametrize("lora", [False, True])
def test_legacy_comes_back_bit_for_bit(tmp_path, lora):
    file = _save(legacy_state(lora=lora), tmp_path / "pytorch_model.pt")
    assert main(["import", "legacy", str(tmp_path), "--out", str(tmp_path / "ours")]) == 0
    assert main(["export", "legacy", str(tmp_path / "ours"), "--out", str(tmp_path / "theirs")]) == 0
    _same(torch.load(tmp_path / "theirs" / "pytorch_model.pt", weights_only=True), torch.load(file, weights_only=True))


def test_the_shared_input_projection_may_be_copied_and_comes_back(tmp_path):
    file = _save(legacy_state(), tmp_path / "pytorch_model.pt")
    import_official("legacy", [file], tmp_path / "ours", separate_inputs=True)
    tensors = load_file(tmp_path / "ours" / "adapter" / "adapter.safetensors")
    assert sum(key.startswith("input_projections.") for key in tensors) == 6
    (written,) = export_official("legacy", tmp_path / "ours", tmp_path / "theirs")
    _same(torch.load(written, weights_only=True), torch.load(file, weights_only=True))
    tensors["input_projections.audio.linear.bias"] += 1
    write_adapter(tmp_path / "ours" / "adapter", tensors, read_manifest(tmp_path / "ours" / "adapter"))
    with pytest.raises(UserError, match=r"input projections differ \(input_projections.audio\)"):
        export_official("legacy", tmp_path / "ours", tmp_path / "again")


def test_v2_files_come_back_bit_for_bit(tmp_path):
    (tmp_path / "enc").mkdir()
    torch.save({k: v.bfloat16() for k, v in v2_state().items()}, tmp_path / "enc" / "mm_input_projector.bin")
    assert main(["import", "v2", str(tmp_path / "enc"), "--out", str(tmp_path / "ours")]) == 0
    assert main(["export", "v2", str(tmp_path / "ours"), "--out", str(tmp_path / "theirs")]) == 0
    files = [tmp_path / folder / "mm_input_projector.bin" for folder in ("theirs", "enc")]
    _same(*(torch.load(file, weights_only=True) for file in files))


def test_a_v2_lora_folder_comes_back_with_what_peft_needs(tmp_path):
    prefix = "base_model.model.model.layers.0.mlp.down_proj.lora_"
    lora = {f"{prefix}A.weight": torch.randn(4, 24), f"{prefix}B.weight": torch.randn(WIDTH, 4)}
    rest = {f"base_model.model.{key}": value for key, value in v2_state().items()}
    (tmp_path / "lora").mkdir()
    save_file(lora, tmp_path / "lora" / "adapter_model.safetensors")
    torch.save(rest, tmp_path / "lora" / "non_lora_trainables.bin")
    given = {"r": 4, "lora_alpha": 12, "lora_dropout": 0.2, "target_modules": ["down_proj"]}
    (tmp_path / "lora" / "adapter_config.json").write_text(json.dumps(given))
    import_official("v2", [tmp_path / "lora"], tmp_path / "ours")
    manifest = json.loads((tmp_path / "ours" / "adapter" / "manifest.json").read_text())
    assert manifest["llm"]["lora"] == {"r": 4, "alpha": 12, "dropout": 0.2, "target_modules": ["down_proj"]}
    export_official("v2", tmp_path / "ours", tmp_path / "theirs")
    _same(load_file(tmp_path / "theirs" / "adapter_model.safetensors"), lora)
    _same(torch.load(tmp_path / "theirs" / "non_lora_trainables.bin", weights_only=True), rest)
    written = json.loads((tmp_path / "theirs" / "adapter_config.json").read_text())
    assert {key: written[key] for key in given} == given


def test_the_report_says_what_became_of_each_key(tmp_path, capsys):
    _save(legacy_state(lora=True), tmp_path / "pytorch_model.pt")
    main(["import", "legacy", str(tmp_path), "--out", str(tmp_path / "ours")])
    printed = capsys.readouterr().out
    assert "llm LoRA" in printed
    mapping = json.loads((tmp_path / "ours" / "key_mapping.json").read_text())["mapping"]
    assert set(mapping) == set(legacy_state(lora=True))
    vocabulary = mapping["llama_model.base_model.model.lm_head.weight"]
    assert vocabulary["to"] == ["llm.model.lm_head.base.weight", "llm.model.lm_head.rows"]
    assert (vocabulary["shape"], vocabulary["dtype"]) == ([ROWS, WIDTH], "float16")


def test_keys_that_no_rule_knows_are_refused_unless_they_do_not_train(tmp_path):
    state = {**legacy_state(), "llama_model.strange": torch.ones(2)}
    with pytest.raises(UserError, match=r"1 trainable keys are not of the legacy format: llama_model.strange"):
        read_official("legacy", [_save(state, tmp_path / "pytorch_model.pt")])
    parameters = OrderedDict((k, nn.Parameter(v, requires_grad="strange" not in k)) for k, v in state.items())
    torch.save(parameters, tmp_path / "pytorch_model.pt")
    assert read_official("legacy", [tmp_path]).skipped == ["llama_model.strange"]


@pytest.mark.parametrize(
    ("gone", "message"),
    [
        (
            "gen_text_hidden_fcs_audio.0.tfm.decoder.layers.0.norm3.bias",
            "output_projections.audio.tfm.*norm3.bias: miss",
        ),
        ("llama_model.base_model.model.model.layers.1.self_attn.v_proj.lora_B.default.weight", "lora_B.*: missing"),
        ("gen_text_hidden_fcs.0.query_embs", "output projection of image lacks its queries"),
    ],
)
def test_incomplete_checkpoints_are_refused(tmp_path, gone, message):
    state = legacy_state(lora=True)
    del state[gone]
    with pytest.raises(UserError, match=message):
        import_official("legacy", [_save(state, tmp_path / "pytorch_model.pt")], tmp_path / "ours")


def test_other_files_are_refused(tmp_path):
    import pickle

    class Strange:
        def __reduce__(self):
            return (print, ("run",))

    (tmp_path / "pytorch_model.pt").write_bytes(pickle.dumps({"x": Strange()}))
    with pytest.raises(UserError, match="not a checkpoint that contains only tensors"):
        read_official("legacy", [tmp_path])
    torch.save({"x": 1}, tmp_path / "pytorch_model.pt")
    with pytest.raises(UserError, match="a dictionary of tensors by name"):
        read_official("legacy", [tmp_path])
    with pytest.raises(UserError, match="no v2 checkpoint there"):
        read_official("v2", [tmp_path])
    with pytest.raises(UserError, match="no such file or folder"):
        read_official("v2", [tmp_path / "nowhere"])


def test_vocabularies_are_counted(tmp_path):
    file = _save(legacy_state(), tmp_path / "pytorch_model.pt")
    with pytest.raises(UserError, match=r"--vocab_size 21: .* 60 rows, which leaves 22"):
        import_official("legacy", [file], tmp_path / "ours", vocab_size=21)
    short = {k: v[:36] if "embed" in k else v for k, v in legacy_state().items()}
    with pytest.raises(UserError, match="36 rows; the last 36"):
        read_official("legacy", [_save(short, tmp_path / "pytorch_model.pt")])


def test_adapters_of_our_own_stages_need_the_llms_vocabulary(network, tmp_path):
    from nextgpt_pl.adapter import save_adapter

    network.load()
    save_adapter(tmp_path, network, [n for n, p in network.named_parameters() if p.requires_grad], stage="A")
    with pytest.raises(UserError, match=r"extra tokens \[\], the legacy format \['<Img>', '</Img>'\]"):
        export_official("legacy", tmp_path, tmp_path / "out")
    with pytest.raises(UserError, match="give --llm"):
        export_official("v2", tmp_path, tmp_path / "out")
    (written,) = export_official("v2", tmp_path, tmp_path / "out", llm="pocket:llm", dtype=torch.float32)
    state = torch.load(written, weights_only=True)
    embedding = network.llm.model.get_input_embeddings()
    assert torch.equal(state["model.embed_tokens.weight"], torch.cat([embedding.base.weight, embedding.rows]))


def test_projections_that_a_format_does_not_have_are_not_exported():
    with pytest.raises(UserError, match=r"the v2 format has no place for: output_projections.image.mix.bias"):
        to_official({"output_projections.image.mix.bias": torch.zeros(2)}, "v2")
    with pytest.raises(UserError, match=r"parts of these tensors are missing: .*layers.0.blocks.1.attn.qkv.weight"):
        to_official({"input_projections.all.layers.0.layers.1.self_attn.k_proj.weight": torch.zeros(2, 2)}, "v2")


def test_grouping_is_recognised_and_cut_into_the_librarys_names(tmp_path):
    torch.manual_seed(0)
    projection = GroupingInputProjection(8, WIDTH, width=16, groups=(6, 3), depths=(2, 1, 1), heads=8)
    save = {f"input_projections.all.{k}": v for k, v in projection.state_dict().items()}
    official = to_official(save, "v2")
    assert official["model.mm_input_projector.layers.0.blocks.1.attn.qkv.weight"].shape == (48, 16)
    torch.save(official, tmp_path / "mm_input_projector.bin")
    import_official("v2", [tmp_path], tmp_path / "ours", vocab_size=24)
    tensors = load_file(tmp_path / "ours" / "adapter" / "adapter.safetensors")
    _same(tensors, save)
    config = yaml.safe_load((tmp_path / "ours" / "config.yaml").read_text())
    block = config["model"]["init_args"]["network"]["init_args"]["input_projection"]
    assert block["init_args"] == {"width": 16, "groups": [6, 3], "depths": [2, 1, 1], "heads": 8}


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_weights_that_are_not_finite_are_not_imported(suffix, tmp_path):
    state = legacy_state()
    state["llama_proj.bias"][3] = float("nan")
    path = tmp_path / f"pytorch_model{suffix}"
    (torch.save if suffix == ".pt" else save_file)(state, path)
    with pytest.raises(UserError, match=r"weights that are not finite: llama_proj\.bias"):
        import_official("legacy", [path], tmp_path / "out")
    assert not (tmp_path / "out").exists()
