"""The plugin within lmms-eval, if it is installed; docs/evaluation.md says how."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from lmms_toy import write_toy

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomllib")

ROOT = Path(__file__).parents[2]
GROUP = "lmms_eval.models"


def _entry_points():
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"][GROUP]


def test_the_entry_point_is_there():
    from nextgpt_pl.harness import plugin

    assert _entry_points() == {"nextgpt_pl": f"{plugin.__name__}:{plugin.manifest.__name__}"}


def test_the_manifest_names_the_model():
    pytest.importorskip("lmms_eval")
    from lmms_eval.models.registry_v2 import ModelRegistryV2

    from nextgpt_pl.harness.lmms_model import NextGptPl
    from nextgpt_pl.harness.plugin import manifest

    registry = ModelRegistryV2()
    registry.register_manifest(manifest())
    assert registry.get_model_class("nextgpt_pl") is NextGptPl
    with pytest.raises(NotImplementedError, match="loglikelihood is not supported"):
        NextGptPl.loglikelihood(None, [])


@pytest.mark.slow
def test_a_trained_run_solves_two_local_tasks_offline(tmp_path):
    pytest.importorskip("lmms_eval")
    write_toy(tmp_path / "tasks", 24)
    # lmms-eval finds the entry point of an installed distribution; the tests need none
    installed = tmp_path / "site" / "plugin-0.0.dist-info"
    installed.mkdir(parents=True)
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: plugin\nVersion: 0.0\n")
    lines = [f"[{GROUP}]", *(f"{name} = {target}" for name, target in _entry_points().items())]
    (installed / "entry_points.txt").write_text("\n".join(lines) + "\n")
    command = [sys.executable, "-m", "lmms_eval", "--model", "nextgpt_pl", "--batch_size", "12"]
    command += ["--model_args", f"run=pocket:chat,output_dir={tmp_path / 'media'}"]
    command += ["--tasks", "pocket_describe,pocket_draw", "--include_path", str(tmp_path / "tasks")]
    command += ["--output_path", str(tmp_path / "out"), "--log_samples"]
    paths = os.pathsep.join([str(ROOT), str(installed.parent), os.environ.get("PYTHONPATH", "")])
    env = {**os.environ, "PYTHONPATH": paths, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf")}
    run = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-2000:]
    (file,) = (tmp_path / "out").rglob("*results.json")
    found = json.loads(file.read_text())["results"]
    assert found["pocket_describe"]["right,none"] > 0.9
    assert found["pocket_draw"]["right,none"] > 0.6
    assert len(list((tmp_path / "media").glob("pocket_draw_*_0.png"))) == 24
