import csv
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from nextgpt_pl.__main__ import main
from nextgpt_pl.errors import UserError
from nextgpt_pl.training.checkpoint_io import AtomicCheckpointIO, newest
from nextgpt_pl.training.resuming import occupied

ROOT = Path(__file__).parent.parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))
import kill_and_resume  # noqa: E402 (not part of the package)


def _fit(folder, name, steps, *extra):
    # a schedule of 40 steps whatever is done of it
    arguments = [*kill_and_resume.SMALL[1:], "--data.num_workers=0", f"--run.root={folder}", f"--run.name={name}"]
    experiment = str(ROOT / "experiments" / "dec_align.yaml")
    return main(["fit", "-c", experiment, *arguments, f"--trainer.max_steps={steps}", *extra])


@pytest.mark.slow
def test_the_same_command_goes_on_and_keeps_the_last_and_the_best(tmp_path, capfd, caplog):
    constant = ("--model.schedule=constant_with_warmup", "--model.warmup_ratio=0")
    assert _fit(tmp_path, "whole", 16, *constant) == 0
    assert _fit(tmp_path, "parts", 9, *constant) == 0
    capfd.readouterr()
    assert _fit(tmp_path, "parts", 16, *constant, "--trainer.enable_progress_bar=true") == 0
    output = "".join(capfd.readouterr())
    assert "9/16 [" in output  # the bar goes on where it was, to the end of all steps
    assert caplog.messages
    assert "was not set" not in caplog.text  # Lightning's remark at each checkpoint, in the middle of the bar
    whole, parts = (tmp_path / "dec_align" / name for name in ("whole", "parts"))
    names = {p.name for p in (parts / "checkpoints").iterdir()}
    assert {"step_000015.ckpt", "step_000016.ckpt", "last.ckpt"} < names
    assert (parts / "checkpoints" / "last.ckpt").resolve().name == "step_000016.ckpt"
    assert len(names) == 4
    assert sum(name.startswith("best_") for name in names) == 1
    weights = [load_file(run / "adapter" / "adapter.safetensors") for run in (whole, parts)]
    assert all(torch.equal(weights[1][name], value) for name, value in weights[0].items())
    tables = [list(csv.DictReader((run / "metrics.csv").open())) for run in (whole, parts)]
    # what was read, as a number and not as a mean over parts of an epoch
    for split, count in (("train", "60.0"), ("val", "6.0")):
        logged = [[row[f"data/{split}_rows_used"] for row in table] for table in tables]
        assert [set(column) - {""} for column in logged] == [{count}, {count}]
    steps = [[row["step"] for row in table] for table in tables]
    assert steps == [["0", "6", "9", "13", "16"]] * 2
    losses = [[row["train/loss"] for row in table if row["train/loss"]] for table in tables]
    assert losses[0] == losses[1] != []
    # nothing is left to do, but what a run leaves is there again
    shutil.rmtree(parts / "adapter")
    caplog.clear()
    assert _fit(tmp_path, "parts", 16, *constant) == 0
    assert "nothing was left to train: the checkpoint is of step 16" in caplog.text
    again = load_file(parts / "adapter" / "adapter.safetensors")
    assert again.keys() == weights[0].keys()
    assert all(torch.equal(again[name], value) for name, value in weights[0].items())


def test_a_checkpoint_is_whole_or_not_there(tmp_path, monkeypatch):
    writer = AtomicCheckpointIO()
    path = tmp_path / "a.ckpt"
    whole = {"global_step": 1, "pytorch-lightning_version": "2.0", "state_dict": {}, "manifest": "{}"}
    writer.save_checkpoint(whole, path)
    monkeypatch.setattr(torch, "save", lambda _, file: file.write(b"half") and (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="full"):
        writer.save_checkpoint({"global_step": 2}, path)
    assert [p.name for p in tmp_path.iterdir()] == ["a.ckpt"]
    assert writer.load_checkpoint(path) == whole
    assert newest(tmp_path) == (path, 1)
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(UserError, match=r"a\.ckpt' is not a readable checkpoint"):
        writer.load_checkpoint(path)


def test_resuming_needs_a_name(capsys):
    assert main(["fit", "-c", str(ROOT / "experiments" / "dec_align.yaml"), "--run.resume=true"]) == 2
    assert "run.resume=true needs run.name" in capsys.readouterr().err


def test_a_start_that_fails_leaves_no_folder(tmp_path, capsys):
    assert _fit(tmp_path, "x", 1, "--trainer.profiler=nonsense") == 2
    assert "nonsense" in capsys.readouterr().err
    assert not (tmp_path / "dec_align" / "x").exists()


def test_a_run_is_resumed_as_it_was_begun(tmp_path, capsys):
    assert _fit(tmp_path, "x", 1, "--trainer.limit_val_batches=0") == 0
    run = tmp_path / "dec_align" / "x"
    before = (run / "config.yaml").read_bytes()
    more = ("--trainer.limit_val_batches=0", "--model.lr=0.5", "--model.network.output_projection.width=48")
    assert _fit(tmp_path, "x", 2, *more) == 2
    error = capsys.readouterr().err
    assert "model.init_args.lr: 0.002, now 0.5" in error
    assert "output_projection.init_args.width: 32, now 48" in error
    assert (run / "config.yaml").read_bytes() == before
    assert _fit(tmp_path, "x", 2, "--trainer.limit_val_batches=0") == 0
    assert "resumed with other settings: trainer.max_steps: 1, now 2" in capsys.readouterr().out


def test_a_checkpoint_that_lacks_what_a_run_needs_is_named(tmp_path, capsys):
    quick = (tmp_path, "x", 1, "--trainer.limit_val_batches=0", "--data.sources.init_args.train_size=2")
    assert _fit(*quick) == 0
    (path,) = (tmp_path / "dec_align" / "x" / "checkpoints").glob("step_*.ckpt")
    whole = torch.load(path, weights_only=True)
    for key, reason in (
        ("optimizer_states", "KeyError: 'Trying to restore optimizer state but checkpoint contains only the model"),
        ("inherited", "KeyError: 'inherited'"),
    ):
        torch.save({name: value for name, value in whole.items() if name != key}, path)
        assert _fit(*quick) == 2
        error = capsys.readouterr().err.splitlines()[-1]
        assert error.startswith(f"error: ckpt_path='{path}': this run cannot be resumed from it ({reason}")


def test_an_epoch_is_no_reason_to_save_where_steps_are_counted(tmp_path):
    assert _fit(tmp_path, "x", 8, "--data.sources.init_args.train_size=2", "--run.checkpoint_every=3") == 0
    names = {p.name for p in (tmp_path / "dec_align" / "x" / "checkpoints").glob("step_*")}
    assert names == {"step_000006.ckpt", "step_000008.ckpt"}


@pytest.mark.parametrize("devices", [pytest.param(1, marks=pytest.mark.slow), pytest.param(2, marks=pytest.mark.long)])
def test_sigterm_saves_and_exits_and_the_run_goes_on(devices, tmp_path):
    extra = ["--trainer.max_steps=100000"]
    if devices > 1:
        extra += kill_and_resume.sharded(devices)
    extra += ["--run.checkpoint_every=50", "--trainer.val_check_interval=100000"]
    process = kill_and_resume.start(tmp_path, "cut", extra)
    first = tmp_path / "dec_align" / "cut" / "checkpoints" / "step_000050.ckpt"
    while not first.is_file():
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.1)  # spinning would take a core from the run
    process.send_signal(signal.SIGTERM)  # to the first process alone
    output = process.communicate(timeout=300)[0]
    assert process.returncode == 128 + signal.SIGTERM, output
    path, step = newest(tmp_path / "dec_align" / "cut" / "checkpoints")
    assert path.name == "interrupted.ckpt"
    assert f"interrupted at step {step}" in output
    assert "Traceback" not in output
    more = [*extra, f"--trainer.max_steps={step + 2}"]
    kill_and_resume.finish(kill_and_resume.start(tmp_path, "cut", more))
    assert newest(tmp_path / "dec_align" / "cut" / "checkpoints")[1] >= step


@pytest.mark.long
def test_killed_runs_end_with_the_weights_of_one_that_was_left_alone():
    command = [sys.executable, str(ROOT / "benchmarks" / "kill_and_resume.py"), "--kills", "10"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=dict(os.environ))
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_learning_rate_that_is_far_too_large_leaves_no_adapter(tmp_path, capsys):
    assert _fit(tmp_path, "wild", 9, "--model.lr=1e12", "--model.warmup_ratio=0") == 2
    error = capsys.readouterr().err
    assert "not finite" in error
    assert "good checkpoint" in error
    run = tmp_path / "dec_align" / "wild"
    assert not (run / "adapter").exists()
    for path in (run / "checkpoints").glob("*.ckpt"):
        AtomicCheckpointIO().load_checkpoint(path)


def test_a_run_whose_disk_is_full_says_so_and_goes_on(tmp_path, capsys):
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    arguments = (tmp_path, "full", 2, "--trainer.limit_val_batches=0")
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, before[1]))  # a checkpoint is larger, the adapter is not
    try:
        assert _fit(*arguments) == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    run = tmp_path / "dec_align" / "full"
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith(f"error: {run}/checkpoints/step_000001.ckpt: the disk is full")
    assert list((run / "checkpoints").iterdir()) == []
    assert _fit(*arguments) == 0
    assert newest(run / "checkpoints")[1] == 2


def test_a_resumed_run_clears_what_a_killed_one_left_half_written(tmp_path):
    left = tmp_path / "checkpoints" / ".step_000001.ckpt.17.partial"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half")
    (tmp_path / ".index.17.partial").mkdir()
    with occupied(tmp_path):
        assert {path.name for path in tmp_path.iterdir()} == {"checkpoints", ".lock"}
        assert not left.exists()
