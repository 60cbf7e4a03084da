"""Whatever is in an adapter's folder: the weights that were saved, or an error that names the folder and no change."""

import json
import shutil

import pytest
import tiny
import torch
from exploring import exploration, outcome
from hypothesis import strategies as st
from mutations import DAMAGES, VALUES, damaged, json_text, mutated
from safetensors.torch import load_file, save_file

from nextgpt_pl.adapter import MANIFEST, WEIGHTS, load_adapter, save_adapter
from nextgpt_pl.llm import LoRA

LORA = LoRA(r=2, alpha=4, dropout=0.0)


def _network(models, lora=None):
    network = tiny.network(models)
    network.load()
    if lora is not None:
        network.llm.add_lora(lora)
    return network


class Saved:
    """An adapter with LoRA, and a network that it is loaded into again and again."""

    def __init__(self, models, folder):
        self.models, self.folder = models, folder
        first = _network(models, LORA)
        names = [n for n in dict(first.named_parameters()) if "projection" in n or "lora_" in n or n.endswith(".rows")]
        with torch.no_grad():
            for name, parameter in first.named_parameters():
                if name in names:
                    parameter.normal_()
        save_adapter(folder, first, names, stage="A")
        self.weights = load_file(folder / WEIGHTS)
        self.files = {name: (folder / name).read_bytes() for name in (WEIGHTS, MANIFEST)}
        self.network = _network(models, LORA)

    def check(self, folder):
        """Load it; the network then has the saved weights, or those that it had."""
        before = {n: p.detach().clone() for n, p in self.network.named_parameters() if n in self.weights}
        said = outcome(load_adapter, folder, self.network, names=(f"init_from={str(folder)!r}",))
        expected = self.weights if said == "right" else before
        now = dict(self.network.named_parameters())
        for name, value in expected.items():
            assert torch.equal(now[name], value), f"{name} after {said}"
        if said == "right":
            with torch.no_grad():
                now[next(iter(expected))].zero_()
        return said


@pytest.fixture(scope="module")
def saved(tiny_models, tmp_path_factory):
    return Saved(tiny_models, tmp_path_factory.mktemp("adapter"))


@pytest.fixture
def folder(saved, tmp_path):
    shutil.copytree(saved.folder, tmp_path / "adapter")
    assert saved.check(tmp_path / "adapter") == "right"
    return tmp_path / "adapter"


def _restore(saved, folder):
    for name, content in saved.files.items():
        (folder / name).write_bytes(content)


@exploration(few=6, many=200)
def test_a_damaged_file_is_named(explore, saved, folder):
    def read(name, damages):
        _restore(saved, folder)
        (folder / name).write_bytes(damaged(saved.files[name], damages))
        return saved.check(folder)

    explore(read, name=st.sampled_from([WEIGHTS, MANIFEST]), damages=DAMAGES)


@exploration(few=6, many=200)
def test_a_changed_manifest_is_named_or_makes_no_difference(explore, saved, folder):
    def read(manifest):
        _restore(saved, folder)
        (folder / MANIFEST).write_text(json_text(manifest))
        return saved.check(folder)

    whole = json.loads(saved.files[MANIFEST])
    few_keys = {**whole, "keys": whole["keys"][:2]}  # so that most changes are elsewhere
    explore(read, manifest=mutated([{**few_keys, "keys": whole["keys"]}, few_keys], VALUES))


@st.composite
def _tensors(draw, weights):
    """Weights of which one has other values, another shape or type, is missing, exchanged or new."""
    changed = dict(weights)
    name = draw(st.sampled_from(sorted(changed)))
    value = changed[name]
    kind = draw(st.sampled_from(["nan", "inf", "shape", "dtype", "drop", "rename", "swap", "empty"]))
    if kind in ("nan", "inf"):
        value = value.clone()
        value.view(-1)[draw(st.integers(0, value.numel() - 1))] = float(kind)
    elif kind == "shape":
        value = value.flatten()[None]
    elif kind == "dtype":
        value = value.to(draw(st.sampled_from([torch.int64, torch.bool, torch.complex64, torch.uint8])))
    elif kind == "empty":
        value = value[:0]
    elif kind == "swap":
        other = draw(st.sampled_from(sorted(changed)))
        value, changed[other] = changed[other], value
    changed[name] = value
    if kind in ("drop", "rename"):
        del changed[name]
    if kind == "rename":
        changed[draw(st.sampled_from(["x", "llm.model.lm_head.base.weight", "../x", ""]))] = value
    return {n: v.contiguous().clone() for n, v in changed.items()}


@exploration(few=4, many=100)
def test_other_weights_in_an_adapter_without_a_hash_are_named(explore, saved, folder):
    """As earlier versions wrote them; an exchange of weights of one shape cannot be noticed then."""
    manifest = json.loads(saved.files[MANIFEST])
    del manifest["sha256"]
    (folder / MANIFEST).write_text(json.dumps(manifest))

    def read(tensors):
        save_file(tensors, folder / WEIGHTS)
        said = outcome(load_adapter, folder, saved.network, names=(f"init_from={str(folder)!r}",))
        shapes = {n: v.shape for n, v in saved.weights.items()}
        finite = all(v.isfinite().all() for v in tensors.values() if v.is_floating_point())
        fits = shapes == {n: v.shape for n, v in tensors.items()} and finite
        assert said == "refused" or fits
        return said

    explore(read, tensors=_tensors(saved.weights))
