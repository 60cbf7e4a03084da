"""Rules of the layout: imports point one way, files stay small, every YAML says how to run it and works."""

import ast
import re
from pathlib import Path

import pytest
from named_files import write_named_files

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "nextgpt_pl"
# model blocks, sweeps (tests/sweeps), evaluations (tests/evaluation) and builds (tests/building) are no experiments
YAMLS = sorted((ROOT / "experiments").rglob("*.yaml"))
EXPERIMENTS = [p for p in YAMLS if not {"models", "sweeps", "eval", "build"} & set(p.relative_to(ROOT).parts)]
# folders and modules of the package, from the bottom to the top: each may import those before it, never one behind it
LAYERS = [
    *("errors", "modality", "published", "utils", "samples", "batches", "config"),
    *("media", "features", "losses"),
    *("pocket/world", "pocket/judges"),
    *("dialogue", "readers", "encoders", "projections", "llm", "retrieval", "decoders"),
    *("pocket", "metrics"),
    *("model_arguments", "model", "adapter", "saved_network", "generation", "pipeline", "hub"),
    *("datamodules", "training", "stages", "reports", "building", "evaluation"),
    *("official", "sizing", "sweeps", "converting", "data_stats", "serving", "demo", "pocket/pretrain"),
    "harness",
    *("verbs", "__main__"),
]
# nothing in these may need Lightning
WITHOUT_LIGHTNING = LAYERS[: LAYERS.index("hub") + 1]


def _layer(name: str) -> str:
    """The layer of a module's dotted name within the package."""
    parts = name.split(".")
    return "/".join(parts[:2]) if "/".join(parts[:2]) in LAYERS else parts[0]


def _modules() -> dict[str, Path]:
    """Dotted names within the package, of modules and of packages."""
    names = {f.relative_to(PACKAGE).with_suffix("").as_posix().replace("/", "."): f for f in PACKAGE.rglob("*.py")}
    return {name.removesuffix(".__init__"): f for name, f in names.items() if name != "__init__"}


def _imports(file: Path) -> set[str]:
    """The modules of the package that a file imports, anywhere in it."""
    imported = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            imported |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name.removeprefix("nextgpt_pl.") for name in imported if name.startswith("nextgpt_pl.")}


def test_every_folder_and_module_has_its_layer():
    there = {_layer(name) for name in _modules()}
    assert there == set(LAYERS)


@pytest.mark.parametrize("layer", LAYERS)
def test_imports_point_one_way(layer):
    above = LAYERS[LAYERS.index(layer) + 1 :]
    files = {name: file for name, file in _modules().items() if _layer(name) == layer}
    assert not {(name, other) for name, file in files.items() for other in _imports(file) if _layer(other) in above}


def test_no_function_of_a_package_has_the_name_of_a_module_in_it():
    """Importing the module would replace the function."""
    for file in PACKAGE.rglob("__init__.py"):
        own = {
            node.name for node in ast.parse(file.read_text()).body if isinstance(node, ast.FunctionDef | ast.ClassDef)
        }
        assert not own & {f.stem for f in file.parent.iterdir()}, file


def test_the_model_and_its_pipeline_hold_no_training_code():
    files = {name: file for name, file in _modules().items() if _layer(name) in WITHOUT_LIGHTNING}
    imports = re.compile(r"^\s*(from|import) lightning", re.MULTILINE)
    assert not {name for name, file in files.items() if imports.search(file.read_text())}


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
    write_named_files(file, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NEXTGPT_RUN_FOLDER", "")  # so that what the trainer sets here is undone
    cli = ExperimentCLI(**parser_arguments([a for f in files for a in ("-c", str(ROOT / f))]), run=False)
    assert cli.model.network.llm.path
    assert cli.datamodule.sources
