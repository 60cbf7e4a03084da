import os
from pathlib import Path

import pytest

from nextgpt_pl.training.runs import RunConfig, create_run_folder, experiment_name, loggers


@pytest.mark.parametrize(("sweep", "mode"), [(None, "offline"), ("abc", "online")])
def test_wandb_is_offline_unless_an_agent_began_the_run(sweep, mode, monkeypatch, tmp_path):
    monkeypatch.setenv("WANDB_MODE", "")
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_SWEEP_ID", sweep or "")
    assert len(loggers(tmp_path / "e" / "r")) == 2
    assert os.environ["WANDB_MODE"] == mode


def test_the_user_has_the_last_word(monkeypatch, tmp_path):
    monkeypatch.setenv("WANDB_SWEEP_ID", "abc")
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert len(loggers(tmp_path / "e" / "r")) == 1


def test_run_folders_never_collide(tmp_path):
    run = RunConfig(tmp_path, "e", "n")
    assert [create_run_folder(run, []).name for _ in range(3)] == ["n", "n-2", "n-3"]


def test_experiment_names():
    assert experiment_name([Path("experiments/smol/dec_align.yaml")]) == "smol/dec_align"
    assert experiment_name([Path("/elsewhere/x.yaml")]) == "x"
