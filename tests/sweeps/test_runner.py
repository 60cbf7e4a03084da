"""Sweeps run, go on where they were cut, and say what failed; a stand-in does the training."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from nextgpt_pl.__main__ import main
from nextgpt_pl.sweeps.search import propose
from nextgpt_pl.sweeps.space import read_sweep

LR = {"model.lr": {"values": [1, 2, 3]}}
RUNS = Path("outputs/sweeps/x")


def _runs():
    return sorted(f.parent.parent.name for f in RUNS.glob("*/adapter/manifest.json"))


def _times():
    return {f.parent.name: f.stat().st_mtime_ns for f in RUNS.glob("*/metrics.csv")}


def test_a_grid_is_run_counted_and_not_run_again(write_sweep, capsys):
    file = str(write_sweep(parameters=LR))
    assert main(["sweep", file, "--count", "2"]) == 0
    assert _runs() == ["lr-1", "lr-2"]
    said = capsys.readouterr().out
    assert "[1/3] lr-1: val/loss 4;" in said
    assert "2 of 3 runs finished, 0 failed, 1 missing" in said
    before = _times()
    assert main(["sweep", file]) == 0
    assert "3 runs, 2 done before" in capsys.readouterr().out
    assert _runs() == ["lr-1", "lr-2", "lr-3"]
    assert {name: at for name, at in _times().items() if name in before} == before
    # a run whose folder was taken away is done again
    (RUNS / "lr-2").rename("elsewhere")
    assert main(["sweep", file]) == 0
    assert _runs() == ["lr-1", "lr-2", "lr-3"]


def test_failures_are_counted_and_tried_again(write_sweep, capsys):
    command = ["${interpreter}", "train.py", "--fails=2", "${args}"]
    file = str(write_sweep(parameters=LR, command=command))
    assert main(["sweep", file]) == 1
    said = capsys.readouterr().out
    assert "lr-2: FAILED with exit code 1: error: model.lr is of no use" in said
    assert "2 of 3 runs finished, 1 failed" in said
    assert _runs() == ["lr-1", "lr-3"]
    before = _times()
    (Path("train.py")).write_text(Path("train.py").read_text().replace("sys.exit(", "print("))
    assert main(["sweep", file]) == 0
    assert _runs() == ["lr-1", "lr-2", "lr-3"]
    assert {name: at for name, at in _times().items() if name in before} == before


def test_when_all_fail_the_rest_is_not_tried(write_sweep, capsys):
    Path("train.py").write_text("raise SystemExit('error: no')")
    file = str(write_sweep(parameters={"model.lr": {"values": list(range(9))}}))
    assert main(["sweep", file]) == 1
    said = capsys.readouterr().out
    assert "all of the first 3 runs failed" in said
    assert "0 of 9 runs finished, 3 failed, 6 missing" in said


def test_a_changed_command_and_a_foreign_folder_are_refused(write_sweep, capsys):
    file = str(write_sweep(parameters=LR))
    assert main(["sweep", file, "--count", "1"]) == 0
    write_sweep(parameters={**LR, "trainer.max_steps": {"value": 5}})
    assert main(["sweep", file]) == 2
    assert "lr-1 was made by another command (different: --trainer.max_steps=5)" in capsys.readouterr().err
    write_sweep(parameters=LR)
    (RUNS / "lr-2").mkdir()
    assert main(["sweep", file]) == 2
    assert "lr-2 exists, but was not made here" in capsys.readouterr().err
    assert (RUNS / "lr-2").is_dir()


def test_two_at_a_time(write_sweep):
    # each waits until both have begun
    script = (
        Path("train.py")
        .read_text()
        .replace(
            'Path("hold").exists()',
            'Path("outputs/sweeps/x/b").exists() or len(list(folder.parent.glob("*/begun"))) < 2',
        )
    )
    Path("train.py").write_text(script)
    file = str(write_sweep(parameters={"model.lr": {"values": [1, 2]}}))
    assert main(["sweep", file, "--jobs", "2"]) == 0
    assert _runs() == ["lr-1", "lr-2"]


def _until(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "nothing happened for a minute"
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_after_a_kill_only_what_is_missing_is_done(how, write_sweep, python, capsys):
    file = str(write_sweep(parameters=LR))
    assert main(["sweep", file, "--count", "1"]) == 0
    before = _times()
    Path("hold").touch()
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    sweep = subprocess.Popen([python, "-m", "nextgpt_pl", "sweep", file], env=environment, start_new_session=True)
    _until((RUNS / "lr-2" / "begun").exists)
    _until((RUNS / "lr-2" / "begun").read_text)
    training = int((RUNS / "lr-2" / "begun").read_text())
    sweep.send_signal(how)
    code = sweep.wait(timeout=60)
    assert code == (130 if how == signal.SIGTERM else -signal.SIGKILL)
    if how == signal.SIGKILL:  # nobody could end its training
        os.kill(training, signal.SIGKILL)
    Path("hold").unlink()
    assert json.loads((RUNS / "logs" / "lr-2.json").read_text())["state"] == "started"
    assert not (RUNS / "lr-2" / "adapter").exists()
    assert main(["sweep", file]) == 0
    assert _runs() == ["lr-1", "lr-2", "lr-3"]
    assert {name: at for name, at in _times().items() if name in before} == before
    assert "3 runs, 1 done before" in capsys.readouterr().out


@pytest.mark.slow
def test_an_orphan_is_waited_for(write_sweep, python, capsys):
    file = str(write_sweep(parameters={"model.lr": {"values": [1]}}))
    Path("hold").touch()
    sweep = subprocess.Popen([python, "-m", "nextgpt_pl", "sweep", file], start_new_session=True)
    _until((RUNS / "lr-1" / "begun").exists)
    sweep.kill()
    sweep.wait(timeout=60)
    second = subprocess.Popen([python, "-m", "nextgpt_pl", "sweep", file], stdout=subprocess.PIPE, text=True)
    assert "another command, or a run that it started, works in this folder; waiting" in second.stdout.readline()
    Path("hold").unlink()
    said, _ = second.communicate(timeout=60)
    assert "1 of 1 runs finished" in said


def test_a_random_search_draws_the_same_again(write_sweep):
    pytest.importorskip("optuna")
    spec = {"model.lr": {"distribution": "log_uniform_values", "min": 0.1, "max": 10.0}, "model.x": {"value": 7}}
    file = str(write_sweep(parameters=spec, method="random"))
    assert main(["sweep", file]) == 2
    assert main(["sweep", file, "--count", "3"]) == 0
    records = {f.stem: json.loads(f.read_text())["parameters"] for f in (RUNS / "logs").glob("*.json")}
    assert set(records) == {"run-000", "run-001", "run-002"}
    values = [record["model.lr"] for record in records.values()]
    assert len(set(values)) == 3
    assert all(0.1 <= value <= 10 for value in values)
    assert all(record["model.x"] == 7 for record in records.values())
    # what was drawn depends on nothing but the number of the run
    (RUNS / "logs" / "run-001.json").unlink()
    (RUNS / "run-001").rename("elsewhere")
    assert main(["sweep", file, "--count", "3"]) == 0
    assert json.loads((RUNS / "logs" / "run-001.json").read_text())["parameters"] == records["run-001"]


def test_a_bayesian_search_learns_from_the_runs_before(write_sweep, capsys):
    pytest.importorskip("optuna")
    spec = {"model.lr": {"min": -20.0, "max": 20.0}, "model.k": {"values": [[1], [2]]}}
    file = write_sweep(parameters=spec, method="bayes", run_cap=9)
    assert main(["sweep", str(file), "--count", "8"]) == 0
    assert "8 of 9 runs finished, 0 failed, 1 missing" in capsys.readouterr().out
    records = [json.loads(f.read_text())["parameters"] for f in sorted((RUNS / "logs").glob("*.json"))]
    # as if its losses had been kept in memory
    sweep, seen = read_sweep(file), []
    for index, record in enumerate(records):
        assert propose(sweep, seen, index) == record
        seen.append((record, (record["model.lr"] - 3) ** 2))


def test_a_metric_that_is_not_logged_is_said(write_sweep, capsys):
    pytest.importorskip("optuna")
    metric = {"name": "val/los", "goal": "minimize"}
    file = str(write_sweep(parameters={"model.lr": {"min": 0.0, "max": 9.0}}, method="bayes", metric=metric))
    assert main(["sweep", file, "--count", "2"]) == 2
    assert "metric.name: 'val/los' was not logged by run run-000" in capsys.readouterr().err
