import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from nextgpt_pl.adapter import load_adapter, save_adapter
from nextgpt_pl.errors import UserError


@pytest.fixture
def saved(network, tmp_path):
    network.load()
    keys = [name for name, p in network.named_parameters() if p.requires_grad]
    save_adapter(tmp_path, network, keys, stage="A", history=["B"])
    return network, tmp_path


def _edit(folder, **changes):
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest.update(changes)
    (folder / "manifest.json").write_text(json.dumps(manifest))


def test_round_trip_is_bit_equal(saved):
    network, folder = saved
    before = {k: v.clone() for k, v in network.state_dict().items()}
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.requires_grad:
                parameter.add_(1)
    assert load_adapter(folder, network)["stages"] == ["B", "A"]
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())


def test_missing_unexpected_and_misshapen_keys_are_named(saved):
    network, folder = saved
    tensors = load_file(folder / "adapter.safetensors")
    first, second = sorted(tensors)[:2]
    tensors["strange"] = tensors.pop(first)
    tensors[second] = torch.zeros(1, 2, 3)
    save_file(tensors, folder / "adapter.safetensors")
    _edit(folder, sha256=None)
    with pytest.raises(UserError) as error:
        load_adapter(folder, network)
    for part in (f"{first}: missing", "strange: unexpected", f"{second}: (1, 2, 3) there"):
        assert part in str(error.value)


def test_another_vocabulary_is_refused(saved):
    network, folder = saved
    _edit(folder, llm={"path": "x", "hidden_size": 256, "vocab_size": 32000})
    with pytest.raises(UserError, match=f"llm vocab_size: 32000 there, {network.llm.vocab_size} here"):
        load_adapter(folder, network)


def test_a_folder_without_an_adapter_is_named(network, tmp_path):
    with pytest.raises(UserError, match="no adapter there"):
        load_adapter(tmp_path / "nowhere", network)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_neither_written_nor_read(value, saved, tmp_path):
    network, folder = saved
    tensors = load_file(folder / "adapter.safetensors")
    name = sorted(tensors)[0]
    parameter = dict(network.named_parameters())[name]
    before = parameter.detach().clone()
    tensors[name].view(-1)[-1] = value
    save_file(tensors, folder / "adapter.safetensors")
    with pytest.raises(UserError, match=f"weights that are not finite: {name}"):
        load_adapter(folder, network)
    assert torch.equal(parameter, before)
    parameter.data.view(-1)[-1] = value
    with pytest.raises(UserError, match=f"not written: weights that are not finite: {name}"):
        save_adapter(tmp_path / "new", network, [name], stage="A")
    assert not (tmp_path / "new").exists()


def _zeroed(data):
    return data[:-1000] + bytes(1000)


@pytest.mark.parametrize(
    ("file", "damage", "named"),
    [
        ("adapter.safetensors", lambda data: data[:100], "adapter.safetensors: "),
        ("adapter.safetensors", lambda _: b"", "adapter.safetensors: "),
        ("adapter.safetensors", _zeroed, "its SHA-256 is not the one in manifest.json"),
        ("manifest.json", lambda data: data[:100], "manifest.json: "),
        ("manifest.json", lambda _: b"", "manifest.json: "),
        ("manifest.json", lambda _: b"\xff\xfe", "manifest.json: .*utf-8"),
        ("manifest.json", lambda _: b"[" * 100_000, "manifest.json: .*recursion"),
        ("manifest.json", lambda _: b"[]", "manifest.json: the whole: "),
        ("manifest.json", lambda _: b"{}", "manifest.json: format: Field required"),
        ("manifest.json", lambda data: data.replace(b'"hidden_size"', b'"hidden"'), "llm.hidden_size: Field required"),
        ("manifest.json", lambda data: data.replace(b'"lora": null', b'"lora": {"x": 1}'), "llm.lora: .*'x'"),
        ("manifest.json", lambda data: data.replace(b'"format": 1', b'"format": "1"'), "format: .*got '1'"),
        ("manifest.json", lambda data: data.replace(b'"stage"', b'"x"'), "stage: Field required"),
        ("manifest.json", lambda data: data.replace(b'"lora": null', b'"lora": {"r": 1e12}'), "llm.lora.r=1000.*ranks"),
    ],
)
def test_a_damaged_adapter_is_named(saved, file, damage, named):
    network, folder = saved
    path = folder / file
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError, match=f"the adapter is damaged: .*{named}"):
        load_adapter(folder, network)


def test_its_files_have_the_usual_mode(saved, tmp_path):
    (tmp_path / "usual").touch()
    modes = {(saved[1] / name).stat().st_mode for name in ("usual", "adapter.safetensors", "manifest.json")}
    assert len(modes) == 1
