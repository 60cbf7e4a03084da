import subprocess
import sys

import pytest
import yaml

from nextgpt_pl.errors import UserError
from nextgpt_pl.training.resuming import check_settings, occupied, removed_if_failed

BEFORE = {
    "seed_everything": 0,
    "trainer": {"max_steps": 100, "callbacks": [{"class_path": "x"}]},
    "run": {"name": "a", "resume": False},
    "model": {"init_args": {"lr": 0.001, "network": {"width": 64, "compile": False}, "gone": 1}},
    "data": {"init_args": {"seed": 0, "num_workers": 0, "sources": [{"path": "a.json"}]}},
}


def _changed(key, value):
    settings = yaml.safe_load(yaml.safe_dump(BEFORE))
    del settings["model"]["init_args"]["gone"]
    section, *parts, last = key.split(".")
    inner = settings
    for part in (section, *parts):
        inner = inner[int(part) if isinstance(inner, list) else part]
    inner[last] = value
    return yaml.safe_dump(settings)


@pytest.fixture
def run(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "step_000001.ckpt").touch()
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(BEFORE))
    return tmp_path


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model.init_args.lr", 0.1),
        ("model.init_args.network.width", 32),
        ("data.init_args.seed", 1),
        ("data.init_args.sources.0.path", "b.json"),
    ],
)
def test_a_run_is_not_resumed_with_what_it_was_not_trained_with(run, key, value):
    with pytest.raises(UserError, match=f"{key}: .*, now {value!r}") as error:
        check_settings(run, _changed(key, value))
    assert str(error.value).count(", now") == 1
    (run / "checkpoints" / "step_000001.ckpt").unlink()
    assert check_settings(run, _changed(key, value)) == []  # nothing was trained


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("trainer.max_steps", 200, ["trainer.max_steps: 100, now 200"]),
        ("data.init_args.num_workers", 4, ["data.init_args.num_workers: 0, now 4"]),
        ("model.init_args.network.compile", True, ["model.init_args.network.compile: False, now True"]),
        ("model.init_args.new_key", 3, []),
        ("run.resume", True, []),
    ],
)
def test_other_settings_may_change_and_are_told(run, key, value, told):
    assert check_settings(run, _changed(key, value)) == told


def test_a_folder_belongs_to_one_process(tmp_path, monkeypatch):
    monkeypatch.setattr("nextgpt_pl.training.resuming._PATIENCE", 0.1)
    code = (
        "import sys; from pathlib import Path; from nextgpt_pl.training.resuming import occupied\n"
        "with occupied(Path(sys.argv[1])): print('in', flush=True); sys.stdin.read()"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], **pipes) as other:
        assert other.stdout.readline() == "in\n"
        with pytest.raises(UserError, match="another process trains in this folder"), occupied(tmp_path):
            pass
        other.kill()
    with occupied(tmp_path):
        pass


def test_a_start_that_fails_leaves_a_folder_only_if_there_is_something_in_it(tmp_path):
    for name, is_left in (("config.yaml", False), ("metrics.csv", True)):
        folder = tmp_path / name
        folder.mkdir()
        (folder / name).touch()
        with pytest.raises(KeyError), removed_if_failed(folder):
            raise KeyError
        assert folder.exists() == is_left
