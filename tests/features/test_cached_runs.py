"""Runs with a cache and without one are the same runs."""

import sys
from pathlib import Path

import pytest
from lightning.pytorch import Trainer

from nextgpt_pl.__main__ import main
from nextgpt_pl.features import FeatureCache

sys.path.insert(0, str(Path(__file__).parent.parent / "helpers"))
import tiny


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    tiny.save_models(folder)
    return folder


def _losses(name, models, folder, cache=None):
    size = 1 if name == "InstructionTuning" else 6
    stage, data = tiny.stage_and_data(name, models, 6, train_size=size, cache=cache)
    found = []
    stage.log_split = lambda values, _split: found.append({k: float(v) for k, (v, _) in values.items()})
    trainer = Trainer(
        max_epochs=2,
        accelerator="cpu",
        logger=False,
        limit_val_batches=0,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
    )
    trainer.fit(stage, data)
    return found, stage


@pytest.mark.parametrize("name", tiny.STAGES)
def test_losses_are_those_without_a_cache_and_a_full_cache_loads_no_encoder(name, models, tmp_path, monkeypatch):
    plain, _ = _losses(name, models, tmp_path)
    filling, _ = _losses(name, models, tmp_path, FeatureCache(tmp_path / "exact", "float32"))
    assert filling == plain
    filled, stage = _losses(name, models, tmp_path, FeatureCache(tmp_path / "exact", "float32"))
    assert filled == plain
    assert not stage.network.encoder.loaded
    assert all(decoder._text is None for decoder in stage.network.decoders.values())
    half, _ = _losses(name, models, tmp_path, FeatureCache(tmp_path / "half"))
    for ours, theirs in zip(half, plain, strict=True):
        assert ours == pytest.approx(theirs, rel=2e-2, abs=2e-3)
    assert half != plain


def test_the_verb_fills_the_cache_once(tmp_path, capsys):
    root = Path(__file__).parent.parent.parent
    command = ["cache", "-c", str(root / "experiments" / "enc_align.yaml"), "--data.batch_size=4"]
    command += ["--data.sources.init_args.train_size=3", "--data.sources.init_args.val_size=1"]
    assert main(command) == 2
    assert "network.cache is not set" in capsys.readouterr().err
    shards = []
    for _ in range(2):
        assert main([*command, f"--model.network.cache.folder={tmp_path}"]) == 0
        lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith(str(tmp_path))]
        assert len(lines) == 3
        assert all(line.endswith(": 4 features") for line in lines)
        shards.append(sorted(p.name for p in tmp_path.rglob("*.safetensors")))
    assert shards[0] == shards[1]
    assert len(shards[0]) == 3
