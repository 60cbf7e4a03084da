"""Under ``bf16-mixed`` frozen parts give the same numbers as in float32, bit for bit, and losses stay close."""

import paper_stages
import pytest
import tiny as tiny_stages
import torch

from nextgpt_pl.decoders import DiffusionDecoder
from nextgpt_pl.encoders.base import Encoder
from nextgpt_pl.stages import signal_states

_STAGES = {
    "enc_align": [],
    "dec_align": ["--model.samples=1", "--model.network.null_signals=true", "--model.condition_dropout=0.5"],
    "instruct": [],
    "cached states": ["--model.train_signal_rows=false", "--model.denoising_weights=null"],
}
_FROZEN = [
    (Encoder, "encode"),
    (DiffusionDecoder, "embed_captions"),
    (DiffusionDecoder, "latents"),
    (signal_states.SignalStates, "__call__"),
]


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch, official_data):
    monkeypatch.setenv("NEXTGPT_DATA", str(official_data))
    monkeypatch.chdir(tmp_path)


def _recorded(monkeypatch, found, owner, name):
    """Let a method keep what it gives."""
    original = getattr(owner, name)

    def method(self, *arguments, **named):
        result = original(self, *arguments, **named)
        found.append((name, result))
        return result

    monkeypatch.setattr(owner, name, method)


def _run(name, precision, tiny_parts, folder, monkeypatch):
    """The losses of two steps and what frozen parts gave."""
    file = "dec_align" if name == "cached states" else name
    stage, data = paper_stages.build(tiny_parts, f"paper/{file}.yaml", *paper_stages.FLOAT32, *_STAGES[name])
    given, losses = [], []
    stage.log_split = lambda values, _split: losses.append({k: float(v[0]) for k, v in values.items()})
    trainer = tiny_stages.quiet_trainer(folder, max_steps=2, precision=precision, limit_val_batches=0)
    with monkeypatch.context() as patches:
        for owner, method in _FROZEN:
            _recorded(patches, given, owner, method)
        trainer.fit(stage, data)
    return losses, given


def _tensors(result):
    if isinstance(result, signal_states.RowStates):
        return [result.text_loss, result.right, *result.at_signals.values()]
    return list(result.values()) if isinstance(result, dict) else [result]


@pytest.mark.slow
@pytest.mark.parametrize("name", _STAGES)
def test_frozen_parts_compute_outside_of_autocast(name, tiny, tmp_path, monkeypatch):
    exact, frozen = _run(name, "32-true", tiny, tmp_path, monkeypatch)
    mixed, frozen_mixed = _run(name, "bf16-mixed", tiny, tmp_path, monkeypatch)
    assert frozen
    assert [kind for kind, _ in frozen] == [kind for kind, _ in frozen_mixed]
    for (kind, one), (_, other) in zip(frozen, frozen_mixed, strict=True):
        for ours, theirs in zip(_tensors(one), _tensors(other), strict=True):
            assert ours.dtype is theirs.dtype is torch.float32
            assert torch.equal(ours, theirs), kind
    for ours, theirs in zip(mixed, exact, strict=True):
        assert ours == pytest.approx(theirs, rel=3e-2, abs=3e-3)
    if name != "cached states":
        assert mixed != exact
