"""Rules of the layout: imports point one way, files stay small, every YAML says how to run it and works."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "nextgpt_pl"
# model blocks, sweeps (tests/sweeps) and evaluations (tests/evaluation) are no experiments
YAMLS = sorted((ROOT / "experiments").rglob("*.yaml"))
EXPERIMENTS = [p for p in YAMLS if not {"models", "sweeps", "eval"} & set(p.relative_to(ROOT).parts)]
# a module may import those to its right, never to its left
LAYERS = ["cli", "stages", "checkpoints", "model", "conversation", "decoders", "samples", "modality"]


def _imports(file: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        found |= {name.split(".")[1] for name in names if name.startswith("nextgpt_pl.")}
    return found


@pytest.mark.parametrize("layer", LAYERS)
def test_imports_point_one_way(layer):
    files = [PACKAGE / f"{layer}.py"] if (PACKAGE / f"{layer}.py").is_file() else list((PACKAGE / layer).rglob("*.py"))
    above = set(LAYERS[: LAYERS.index(layer)])
    assert not {(f.name, i) for f in files for i in _imports(f) & above}


def test_the_model_holds_no_training_code():
    for name in ("model.py", "llm", "projections", "decoders", "conversation.py", "encoders"):
        path = PACKAGE / name
        for file in [path] if path.is_file() else path.rglob("*.py"):
            assert "lightning" not in file.read_text(), file


@pytest.mark.parametrize("file", EXPERIMENTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_experiment_says_how_to_run_it_and_instantiates(file, monkeypatch, tmp_path):
    from nextgpt_pl.training.cli import ExperimentCLI, parser_arguments

    command = next(line for line in file.read_text().splitlines() if "python -m nextgpt_pl" in line)
    assert command.startswith("#")
    # an ablation is laid over the base that its command names first
    files = re.findall(r"-c (\S+\.yaml)", command)
    assert files[-1] == str(file.relative_to(ROOT))
    monkeypatch.setenv("NEXTGPT_SAMPLES", str(tmp_path))
    monkeypatch.setenv("NEXTGPT_DATA", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("WANDB_MODE", "disabled")
    # a file that a source names must be there, whatever is in it
    for name in re.findall(r"- (\S+\.json)$", file.read_text(), re.MULTILINE):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("[]")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NEXTGPT_RUN_FOLDER", "")  # so that what the trainer sets here is undone
    cli = ExperimentCLI(**parser_arguments([a for f in files for a in ("-c", str(ROOT / f))]), run=False)
    assert cli.model.network.llm.path
    assert cli.datamodule.sources
