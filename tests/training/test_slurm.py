"""The job scripts, with stand-ins for SLURM's commands: what they start, and when they put a job back."""

import json
import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from nextgpt_pl.training.checkpoint_io import newest

ROOT = Path(__file__).parent.parent.parent
SCRIPTS = sorted((ROOT / "experiments" / "slurm").glob("*.sbatch"))
SMALL = [
    "--trainer.accelerator=cpu",
    "--trainer.max_steps=100000",
    "--trainer.limit_val_batches=0",
    "--trainer.enable_progress_bar=false",
    "--model.samples=0",
    "--model.network.output_projection.init_args.width=32",
    "--data.batch_size=4",
    "--data.num_workers=1",
    "--data.sources.init_args.train_size=20",
    "--run.checkpoint_every=3",
]
# runs its command; once FIRST exists, sends the signal to all of its processes, as SLURM does
SRUN = """
import json, os, pathlib, signal, subprocess, sys, time
own = [a for a in sys.argv[1:] if a.startswith("--")][:next(i for i, a in enumerate(sys.argv[1:]) if a[0] != "-")]
first = pathlib.Path(os.environ["STAND_IN_FIRST"])
with open("srun.json", "w") as file:
    json.dump({"own": own, "cpus": os.environ.get("SRUN_CPUS_PER_TASK")}, file)
process = subprocess.Popen(sys.argv[1 + len(own):], start_new_session=True)
while process.poll() is None and not first.exists():
    time.sleep(0.1)
if process.poll() is None:
    mark = f"STAND_IN_FIRST={first}".encode()
    for entry in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            mine = int(entry.name) in (os.getpid(), os.getppid())
            if not mine and mark in (entry / "environ").read_bytes():
                os.kill(int(entry.name), signal.SIGTERM)
        except (OSError, ProcessLookupError):
            pass
sys.exit(process.wait() % 256)
"""
SCONTROL = """
import sys
if sys.argv[1:3] == ["show", "hostnames"]:
    print("localhost")
else:
    with open("scontrol.txt", "a") as file:
        file.write(" ".join(sys.argv[1:]) + chr(10))
"""


# a program that fails as a mistake on the command line does
FAILING = """
import sys
print("started as", *sys.argv[1:])
sys.exit(2)
"""


def _executable(path, text):
    path.write_text(f"#!{sys.executable}\n{text}")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


@pytest.fixture
def submit(tmp_path):
    """Runs a script as a job of one process, in a folder that looks like a clone."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "experiments").symlink_to(ROOT / "experiments")
    _executable(tmp_path / "bin" / "srun", SRUN)
    _executable(tmp_path / "bin" / "scontrol", SCONTROL)
    job = {"JOB_ID": "7", "JOB_NAME": "nextgpt", "JOB_NUM_NODES": "1", "JOB_NODELIST": "here", "NNODES": "1"}
    task = {"NTASKS": "1", "NTASKS_PER_NODE": "1", "PROCID": "0", "LOCALID": "0", "NODEID": "0", "GPUS_ON_NODE": "1"}
    slurm = {f"SLURM_{name}": value for name, value in {**job, **task, "CPUS_PER_TASK": "2"}.items()}

    def run(script, *arguments):
        environment = {
            **os.environ,
            **slurm,
            "PATH": os.pathsep.join([str(tmp_path / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]]),
            "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
            "OMP_NUM_THREADS": "1",
            "STAND_IN_FIRST": str(tmp_path / "outputs/dec_align/x/checkpoints/step_000003.ckpt"),
        }
        command = ["bash", str(script), "x", "experiments/dec_align.yaml", *arguments]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        done = subprocess.run(command, cwd=tmp_path, env=environment, timeout=600, check=False, **pipes)
        requeued = tmp_path / "scontrol.txt"
        return done, requeued.read_text() if requeued.is_file() else ""

    return run


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda p: p.stem)
def test_the_scripts_are_sound(script):
    assert subprocess.run(["bash", "-n", str(script)], check=False).returncode == 0
    text = script.read_text()
    options = dict(re.findall(r"^#SBATCH --([\w-]+)=(\S+)", text, re.MULTILINE))
    assert "/" not in options["output"]  # a clone has no other folder
    assert int(options["signal"].removeprefix("TERM@")) > 270
    assert "--kill-on-bad-exit=1" in text


@pytest.fixture
def stale(tmp_path):
    """The mark of an earlier job, which had to be put back."""
    file = tmp_path / "outputs" / "dec_align" / "x" / "requeue"
    file.parent.mkdir(parents=True)
    file.touch()


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda p: p.stem)
def test_a_job_whose_program_fails_is_not_put_back(script, submit, stale, tmp_path):
    for name in ("python", "torchrun"):
        _executable(tmp_path / "bin" / name, FAILING)
    done, requeued = submit(script, *SMALL)
    assert done.returncode
    assert "started as" in done.stdout
    assert " nextgpt_pl fit -c experiments/dec_align.yaml " in done.stdout
    assert requeued == ""
    assert json.loads((tmp_path / "srun.json").read_text()) == {"own": ["--kill-on-bad-exit=1"], "cpus": "2"}


@pytest.mark.slow
@pytest.mark.parametrize("script", [pytest.param(p, id=p.stem) for p in SCRIPTS if "torchrun" in p.stem])
def test_a_job_with_a_mistake_is_not_put_back(script, submit, stale, tmp_path):
    done, requeued = submit(script, *SMALL, "--model.lrr=1")
    assert done.returncode
    assert "model.lrr: no such key" in done.stdout
    assert requeued == ""
    assert json.loads((tmp_path / "srun.json").read_text()) == {"own": ["--kill-on-bad-exit=1"], "cpus": "2"}


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda p: p.stem)
def test_a_job_at_its_time_limit_saves_and_is_put_back(script, submit, tmp_path):
    done, requeued = submit(script, *SMALL)
    assert "interrupted at step" in done.stdout, done.stdout[-5000:]
    assert requeued == "requeue 7\n"
    assert done.returncode in (1, 143)
    run = tmp_path / "outputs" / "dec_align" / "x"
    assert newest(run / "checkpoints")[0].name == "interrupted.ckpt"
    assert (run / "requeue").read_text().strip() == str(run.resolve() / "checkpoints" / "interrupted.ckpt")
