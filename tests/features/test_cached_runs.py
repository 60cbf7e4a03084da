"""Runs with a cache and without one are the same runs."""

import re
from pathlib import Path

import pytest
import tiny

from nextgpt_pl.__main__ import main
from nextgpt_pl.features import FeatureCache
from nextgpt_pl.features.rounding import DTYPES


def _losses(name, tiny_models, folder, cache=None):
    size = 1 if name == "InstructionTuning" else 6
    stage, data = tiny.stage_and_data(name, tiny_models, 6, train_size=size, cache=cache)
    found = []
    stage.log_split = lambda values, _split: found.append({k: float(v) for k, (v, _) in values.items()})
    trainer = tiny.quiet_trainer(folder, max_epochs=2, limit_val_batches=0)
    trainer.fit(stage, data)
    return found, stage


@pytest.mark.parametrize("name", tiny.STAGES)
def test_losses_are_those_without_a_cache_and_a_full_cache_loads_no_encoder(name, tiny_models, tmp_path, monkeypatch):
    plain, _ = _losses(name, tiny_models, tmp_path)
    filling, _ = _losses(name, tiny_models, tmp_path, FeatureCache(tmp_path / "exact", "float32"))
    assert filling == plain
    filled, stage = _losses(name, tiny_models, tmp_path, FeatureCache(tmp_path / "exact", "float32"))
    assert filled == plain
    assert not stage.network.encoder.loaded
    assert not any(decoder.captions.loaded for decoder in stage.network.decoders.values())
    half, _ = _losses(name, tiny_models, tmp_path, FeatureCache(tmp_path / "half"))
    for ours, theirs in zip(half, plain, strict=True):
        assert ours == pytest.approx(theirs, rel=2e-2, abs=2e-3)
    assert half != plain


def test_the_verb_fills_the_cache_once(tmp_path, capsys):
    root = Path(__file__).parent.parent.parent
    command = ["cache", "-c", str(root / "experiments" / "enc_align.yaml"), "--data.batch_size=4"]
    command += ["--data.sources.init_args.train_size=3", "--data.sources.init_args.val_size=1"]
    assert main(command) == 2
    assert "network.cache is not set" in capsys.readouterr().err
    shards, half = [], r"; relative error 0\.000[12]\d* \(root mean square\), at most 0\.000[2-5]\d* over 4 new ones"
    for error in (half, ""):
        assert main([*command, f"--model.network.cache.folder={tmp_path}"]) == 0
        lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith(str(tmp_path))]
        assert len(lines) == 3
        assert all(re.search(rf": 4 features, 0\.0\d+ MB in float16{error}$", line) for line in lines)
        shards.append(sorted(p.name for p in tmp_path.rglob("*.safetensors")))
    assert shards[0] == shards[1]
    assert len(shards[0]) == 3
    assert main([*command, f"--model.network.cache.folder={tmp_path}", "--model.network.cache.dtype=float8"]) == 2
    message = capsys.readouterr().err
    assert all(part in message for part in ("float8", *DTYPES))
