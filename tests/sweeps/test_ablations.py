"""Ablations: each overrides one thing, and a folder of them is run with seeds."""

import itertools
from pathlib import Path

import pytest
import yaml

from nextgpt_pl.__main__ import main
from nextgpt_pl.errors import UserError
from nextgpt_pl.reports import find_runs, flatten
from nextgpt_pl.sweeps.plans import plan_ablations

ROOT = Path(__file__).parent.parent.parent
FOLDER = ROOT / "experiments" / "ablations"
ABLATIONS = sorted(p for p in FOLDER.glob("*.yaml") if p.name != "base.yaml")


def _resolved(*files):
    from nextgpt_pl.training.cli import _PartsOnly, parser_arguments

    cli = _PartsOnly(**parser_arguments([a for f in files for a in ("-c", str(f))]), run=False)
    return flatten(yaml.safe_load(cli.parser.dump(cli.config, skip_none=False)))


@pytest.fixture(scope="module")
def base():
    return _resolved(FOLDER / "base.yaml")


def _thing(file):
    """The key that all of a YAML is under, without what only says how it is nested."""
    words = zip(*(key.split(".") for key in flatten(yaml.safe_load(file.read_text()))), strict=False)
    common = [words[0] for words in itertools.takewhile(lambda column: len(set(column)) == 1, words)]
    while common[-1] in ("class_path", "init_args"):
        common.pop()
    return ".".join(common)


@pytest.mark.parametrize("file", ABLATIONS, ids=lambda p: p.stem)
def test_an_ablation_overrides_one_thing(file, base):
    found = _resolved(FOLDER / "base.yaml", file)
    changed = {key for key in base.keys() | found.keys() if base.get(key, None) != found.get(key, None)}
    thing = _thing(file)
    assert thing.count(".") >= 2
    assert changed
    assert all(f"{key}.".startswith(f"{thing}.") for key in changed), changed


def test_the_plan_is_every_file_with_every_seed(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    plan = plan_ablations(FOLDER, [0, 7], ["--trainer.max_steps=3"])
    assert len(plan) == 2 * (len(ABLATIONS) + 1)
    assert (plan[0].experiment, plan[0].name) == ("ablations/base", "seed-0")
    last = plan[-1]
    assert (last.experiment, last.name) == (f"ablations/{ABLATIONS[-1].stem}", "seed-7")
    files = ("-c", str(FOLDER / "base.yaml"), "-c", str(ABLATIONS[-1]))
    assert last.command[1:8] == ("-m", "nextgpt_pl", "fit", *files)
    assert last.command[8:] == ("--seed_everything=7", "--data.init_args.seed=7", "--trainer.max_steps=3")


def test_a_plan_is_the_same_however_the_folder_is_given(monkeypatch, tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "base.yaml").touch()
    monkeypatch.chdir(tmp_path)
    (plan,) = plan_ablations(folder, [0])
    assert [plan] == plan_ablations(Path("mine"), [0])
    assert plan.command[4:6] == ("-c", "mine/base.yaml")
    assert plan.experiment == "mine/base"


def test_mistakes_are_named(tmp_path, capsys):
    with pytest.raises(UserError, match=r"base\.yaml: no such file; the folder's other YAMLs"):
        plan_ablations(tmp_path, [0])
    assert main(["ablate", str(FOLDER), "--seeds", "0,x"]) == 2
    assert "--seeds=0,x: whole numbers separated by commas" in capsys.readouterr().err


@pytest.mark.long
def test_ablations_run_and_are_not_run_again(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "experiments" / "ablations"
    folder.mkdir(parents=True)
    base = (FOLDER / "base.yaml").read_text().replace("../models", str(FOLDER.parent / "models"))
    (folder / "base.yaml").write_text(base)
    (folder / "width.yaml").write_text((FOLDER / "projection_width_128.yaml").read_text().replace("128", "16"))
    monkeypatch.chdir(tmp_path)
    tiny = ["--trainer.max_steps=1", "--trainer.val_check_interval=1", "--model.samples=0"]
    tiny += [f"--data.init_args.sources.init_args.{name}=4" for name in ("train_size", "val_size")]
    assert main(["ablate", str(folder), "--count", "1", "--", *tiny]) == 0
    assert main(["ablate", str(folder), "--", *tiny]) == 0
    said = capsys.readouterr().out
    assert "2 runs, 1 done before" in said
    assert "[2/2] width/seed-0: finished" in said
    runs = find_runs(["outputs"])
    assert [run.name for run in runs] == ["base/seed-0", "width/seed-0"]
    key = "model.init_args.network.init_args.output_projection.init_args.width"
    assert [run.config[key] for run in runs] == [512, 16]
    assert all(run.finished and "val/relative_mse_image" in run.final for run in runs)
