import sys
import textwrap
from pathlib import Path

import pytest
import yaml

# stands for a training: leaves what a run leaves, in a blink
TRAINING = """
    import json, os, pathlib, sys, time
    options = dict(a.removeprefix("--").split("=", 1) for a in sys.argv[1:] if a.startswith("--"))
    folder = pathlib.Path(options["run.root"], options["run.experiment"], options["run.name"])
    folder.mkdir(parents=True)
    lr = float(options.get("model.lr", 0))
    (folder / "config.yaml").write_text(json.dumps({"model": {"lr": lr}, "seed_everything": 0}))
    (folder / "begun").write_text(str(os.getpid()))
    if options.get("model.lr") == options.get("fails"):
        sys.exit("error: model.lr is of no use")
    while pathlib.Path("hold").exists():
        time.sleep(0.02)
    (folder / "metrics.csv").write_text(f"step,val/loss\\n0,{(lr - 3) ** 2}\\n")
    (folder / "adapter").mkdir()
    (folder / "adapter" / "manifest.json").write_text("{}")
    print("done.")
"""


@pytest.fixture
def write_sweep(tmp_path, monkeypatch):
    """Writes a sweep's YAML whose command is a stand-in for training; the test runs in that folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.py").write_text(textwrap.dedent(TRAINING))

    def write(name: str = "x", **keys) -> Path:
        config = {
            "method": "grid",
            "metric": {"name": "val/loss", "goal": "minimize"},
            "command": ["${env}", "${interpreter}", "train.py", "${args}"],
            **keys,
        }
        file = tmp_path / "experiments" / "sweeps" / f"{name}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(yaml.safe_dump({k: v for k, v in config.items() if v is not None}))
        return file

    return write


@pytest.fixture
def python() -> str:
    return sys.executable
