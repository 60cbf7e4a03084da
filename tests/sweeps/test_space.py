"""Sweep files: what they mean, and that a W&B agent and this project make the same commands of them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from nextgpt_pl.errors import UserError
from nextgpt_pl.sweeps.plans import plan_grid
from nextgpt_pl.sweeps.space import grid, read_sweep

ROOT = Path(__file__).parent.parent.parent
SWEEPS = sorted((ROOT / "experiments" / "sweeps").rglob("*.yaml"))
LR = {"model.lr": {"values": [1, 2]}}

every_sweep = pytest.mark.parametrize("file", SWEEPS, ids=lambda p: p.stem)


def agent_command(file, point, monkeypatch):
    """The command line that W&B's own agent begins for these parameters."""
    from wandb import wandb_agent

    begun = []

    class _Process:
        def __init__(self, env=None, command=None, **_):
            begun.append(command)

    monkeypatch.setattr(wandb_agent, "AgentProcess", _Process)
    monkeypatch.setenv("WANDB_SWEEP_ID", "s")
    agent = wandb_agent.Agent(api=None, queue=None, sweep_id="s")
    agent._sweep_command = yaml.safe_load(file.read_text())["command"]
    args = {key: {"value": value} for key, value in point.items()}
    agent._command_run({"type": "run", "run_id": "r", "program": "", "args": args})
    monkeypatch.delenv("WANDB_RUN_ID", raising=False)
    return begun[0]


def test_there_are_sweeps():
    assert {"projection_size", "signal_tokens"} <= {file.stem for file in SWEEPS}


@every_sweep
def test_a_sweep_says_how_to_run_it(file):
    name = file.relative_to(ROOT)
    lines = file.read_text().splitlines()
    assert f"# Run: python -m nextgpt_pl sweep {name}" in lines
    assert any(f"wandb sweep {name}, then wandb agent" in line for line in lines)
    assert f"--run.experiment=sweeps/{file.stem}" in read_sweep(file).command


@every_sweep
def test_an_agents_commands_are_ours_and_they_parse(file, monkeypatch, tmp_path):
    from lightning.pytorch import Trainer

    from nextgpt_pl.training.cli import ExperimentCLI, parser_arguments

    sweep = read_sweep(file)
    point = grid(sweep)[-1]
    monkeypatch.chdir(tmp_path)  # the agent writes a file
    command = agent_command(file, point, monkeypatch)
    assert command[:2] == ["/usr/bin/env", "python"]
    assert command[1:] == sweep.arguments(point, ["python"])
    # relative to the project's folder, where agents are begun
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("NEXTGPT_RUN_FOLDER", str(tmp_path))
    monkeypatch.setattr(Trainer, "fit", lambda *_, **__: None)
    cli = ExperimentCLI(**parser_arguments(command[command.index("fit") :]))
    assert cli.trainer.max_steps == point["trainer.max_steps"]
    assert cli.datamodule.seed == point["seed_everything"]
    network = cli.model.network
    width = point.get("model.network.init_args.output_projection.init_args.width", 512)
    assert network.output_projection_factory(64, 4, 8, 16).out.in_features == width
    tokens = point.get("model.network.init_args.num_signal_tokens", {"image": 4, "video": 24, "audio": 8})
    assert {m.value: n for m, n in network.num_signal_tokens.items()} == tokens


@pytest.mark.slow
@every_sweep
def test_an_agents_command_starts(file, monkeypatch, tmp_path):
    small = {"trainer.max_steps": 1, "trainer.val_check_interval": 1, "trainer.limit_val_batches": 1}
    point = {**grid(read_sweep(file))[0], **small}
    monkeypatch.chdir(tmp_path)
    command = agent_command(file, point, monkeypatch)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "WANDB_MODE": "disabled", "PYTHONPATH": str(ROOT)}
    extra = [f"--run.root={tmp_path}", "--data.init_args.sources.init_args.train_size=16"]
    done = subprocess.run([*command, *extra], cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (manifest,) = tmp_path.glob(f"sweeps/{file.stem}/*/adapter/manifest.json")
    assert manifest.is_file()


@every_sweep
def test_wandb_finds_nothing_wrong_and_walks_the_same_grid(file):
    engine = pytest.importorskip("sweeps")
    config = yaml.safe_load(file.read_text())
    assert engine.schema_violations_from_proposed_config(config) == []
    runs = []
    while (found := engine.next_run(config, runs)) is not None:
        runs.append(found)
    assert [{k: v["value"] for k, v in run.config.items()} for run in runs] == grid(read_sweep(file))


def test_runs_are_named_by_what_is_varied(write_sweep):
    parameters = {"a.init_args.width": {"values": [8, 16]}, "seed": {"values": [0, 1]}, "c": {"value": 3}}
    plan = plan_grid(read_sweep(write_sweep(parameters=parameters)))
    assert [p.name for p in plan] == ["width-8_seed-0", "width-8_seed-1", "width-16_seed-0", "width-16_seed-1"]
    assert plan[0].command[1:] == ("train.py", "--a.init_args.width=8", "--c=3", "--seed=0")
    assert plan[0].experiment == "sweeps/x"


def test_names_of_different_values_differ(write_sweep):
    values = [-1, 1, "a b", "a-b", "a/b", "a" * 300, "a" * 301, {"b": 1}]
    names = [p.name for p in plan_grid(read_sweep(write_sweep(parameters={"x": {"values": values}})))]
    assert names[:2] == ["x--1", "x-1"]
    assert names[3] == "x-a-b"
    assert len(set(names)) == len(values)
    assert not [name for name in names if "/" in name or len(name) > 60]


def test_a_grid_counts_whole_numbers_and_steps(write_sweep):
    parameters = {"a": {"min": 1, "max": 3}, "b": {"min": 0.0, "max": 1.0, "q": 0.5}}
    points = grid(read_sweep(write_sweep(parameters=parameters)))
    assert points == [{"a": a, "b": b} for a in (1, 2, 3) for b in (0.0, 0.5)]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"method": "grdi", "parameters": LR}, "method: 'grdi'; one of grid, random, bayes"),
        ({"paramters": LR}, "paramters: no such key; did you mean 'parameters'?"),
        ({}, "parameters: at least one is expected"),
        (
            {"parameters": {"a": {"distribtion": "uniform"}}},
            "a.distribtion: not supported; did you mean 'distribution'?",
        ),
        ({"parameters": {"a": 3}}, "parameters.a: 3; 'value: ...'"),
        ({"parameters": {"a": {"values": 3}}}, "parameters.a.values: 3; a list"),
        ({"parameters": {"a": {"min": 3}}}, "value, values, or min and max are expected"),
        ({"parameters": {"a": {"min": 3, "max": 2}}}, "min 3 is not below max 2"),
        ({"parameters": {"a": {"parameters": LR}}}, "write their dotted keys, a.NAME"),
        ({"parameters": LR, "method": "bayes", "metric": {}}, "metric.name is missing"),
        ({"parameters": LR, "metric": {"name": "a", "goal": "up"}}, "metric.goal: 'up'"),
        ({"parameters": LR, "command": None}, "command is missing"),
    ],
)
def test_mistakes_are_named(keys, message, write_sweep):
    with pytest.raises(UserError) as error:
        read_sweep(write_sweep(**keys))
    assert message in str(error.value)


def test_a_grid_without_steps_and_an_unknown_macro_are_said(write_sweep):
    with pytest.raises(UserError, match=r"parameters\.a: a grid needs values"):
        grid(read_sweep(write_sweep(parameters={"a": {"min": 0.0, "max": 1.0}})))
    with pytest.raises(UserError, match=r"'\$\{args_json\}' is not supported; did you mean '\$\{args\}'"):
        plan_grid(read_sweep(write_sweep(parameters=LR, command=["${args_json}"])))


@pytest.mark.parametrize(
    ("value", "flag"),
    [
        (None, "--x=null"),
        (True, "--x=True"),
        (1e-5, "--x=1e-05"),
        ({"image": 1}, "--x={'image': 1}"),
        ({"image": None}, '--x={"image": null}'),
        ([1, None], "--x=[1, null]"),
        ("None", "--x=None"),
    ],
)
def test_values_are_spelled_so_that_they_arrive(value, flag, tmp_path):
    file = tmp_path / "sweep.yaml"
    command = ["python", "${args}"]
    file.write_text(yaml.safe_dump({"method": "grid", "command": command, "parameters": {"x": {"values": [value]}}}))
    (planned,) = plan_grid(read_sweep(file))
    assert planned.command == ("python", flag)
