"""A stranger's run is data to every verb that loads one: classes outside the package are trusted by name or refused."""

import ast
import sys
from pathlib import Path

import pytest
import yaml

import nextgpt_pl
from nextgpt_pl.__main__ import main
from nextgpt_pl.errors import UserError
from nextgpt_pl.pipeline import AnyToAny

ROOT = Path(__file__).parent.parent.parent
POCKET = ROOT / "experiments" / "models" / "pocket.yaml"
TASKS = str(ROOT / "experiments" / "eval" / "pocket.yaml")
NAMES = ["planted.Planted", "planted.PlantedProjection"]
VERBS = {
    "chat": ["chat"],
    "generate": ["generate", "--prompt", "Hello!", "--out", "reply"],
    "serve": ["serve", "--port", "0"],
    "demo": ["demo"],
    "score": ["score", "--count", "1", "--config", TASKS],
    "test": ["test", "-c", TASKS, "--count", "1"],
}


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run that names two classes of others."""
    network = yaml.safe_load(POCKET.read_text())
    network["init_args"]["encoder"] = {"class_path": NAMES[0]}
    network["init_args"]["output_projection"] = {"class_path": NAMES[1]}
    folder = tmp_path / "run"
    (folder / "adapter").mkdir(parents=True)
    (folder / "adapter" / "manifest.json").write_text("{}")
    (folder / "config.yaml").write_text(yaml.safe_dump({"model": {"init_args": {"network": network}}}))
    monkeypatch.chdir(tmp_path)
    return folder


def _arguments(verb, run, monkeypatch):
    if verb == "demo":  # the page loads a run when it is first asked
        pytest.importorskip("gradio")
        monkeypatch.setattr("nextgpt_pl.demo.page.build_page", lambda models, *_: models)
        monkeypatch.setattr(
            "nextgpt_pl.demo.page.application", lambda models, *_: models.get(next(iter(models.folders)))
        )
    return [*VERBS[verb], "--run", str(run)]


@pytest.mark.parametrize("verb", VERBS)
def test_a_strangers_run_is_refused_with_the_names_of_its_classes(verb, run, monkeypatch, capsys):
    assert main(_arguments(verb, run, monkeypatch)) == 2
    message = capsys.readouterr().err
    assert all(f"'{name}' is refused" in message for name in NAMES)
    assert f"--trust {' '.join(NAMES)}" in message
    assert "planted" not in sys.modules


@pytest.mark.parametrize("verb", VERBS)
def test_classes_are_trusted_by_name(verb, run, monkeypatch, capsys):
    def loaded(_, trust=(), **__):
        raise UserError(f"trusted: {list(trust)}")

    arguments = _arguments(verb, run, monkeypatch)
    monkeypatch.setattr(AnyToAny, "from_run", lambda run, device=None, trust=(), access=None: loaded(run, trust))
    assert main([*arguments, "--trust", NAMES[0], "--trust", NAMES[1]]) == 2
    assert f"trusted: {NAMES}" in capsys.readouterr().err


def test_all_that_loads_a_run_passes_trust_on():
    loaders = {"from_run", "loaded_network", "network_of"}
    found = 0
    for file in Path(nextgpt_pl.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            name = getattr(getattr(node, "func", None), "attr", getattr(getattr(node, "func", None), "id", ""))
            if name in loaders:
                found += 1
                named = [ast.unparse(a) for a in node.args] + [k.arg for k in node.keywords]
                assert any("trust" in argument for argument in named), f"{file}:{node.lineno}"
    assert found > len(VERBS)
