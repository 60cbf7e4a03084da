"""Processes end with the one that started them, even if it is killed."""

import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from nextgpt_pl.datamodules.samplers import RowLoader
from nextgpt_pl.utils import parents

ROOT = Path(__file__).parent.parent.parent
CHILD = """
    import sys, time
    from nextgpt_pl.utils import parents
    if sys.argv[1] == "watch":
        parents._ask_kernel, parents._POLL = lambda: False, 0.05
    parents.end_with_starter()
    print("ready", flush=True)
    time.sleep(600)
"""
STARTER = """
    import os, subprocess, sys
    from nextgpt_pl.utils.parents import child_environment
    environment = {**os.environ, **child_environment()}
    sys.exit(subprocess.run([sys.executable, "-c", sys.argv[2], sys.argv[1]], env=environment).returncode)
"""


@pytest.mark.parametrize("how", ["kernel", "watch"])
def test_a_child_ends_when_its_parent_is_killed(how):
    command = [sys.executable, "-c", textwrap.dedent(STARTER), how, textwrap.dedent(CHILD)]
    starter = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT)
    assert starter.stdout.readline() == "ready\n"
    starter.kill()
    # the child holds the other end: it is closed when the child is gone
    assert starter.communicate(timeout=60)[0] == ""


def test_a_child_whose_parent_has_ended_does_not_begin(monkeypatch):
    ended = subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE)
    assert ended.stdout.read() == b""  # it has ended; nobody has waited for it yet
    monkeypatch.setenv("NEXTGPT_PARENT_PROCESS", str(ended.pid))
    command = [sys.executable, "-c", textwrap.dedent(CHILD), "kernel"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=60)
    assert (done.returncode, done.stdout) == (-signal.SIGKILL, "")
    ended.wait()
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=60)
    assert (done.returncode, done.stdout) == (-signal.SIGKILL, "")


def test_others_are_left_alone(monkeypatch):
    monkeypatch.setattr(parents, "end_with", lambda _: pytest.fail("it was started by another process"))
    parents.end_with_starter()
    monkeypatch.setenv("NEXTGPT_PARENT_PROCESS", str(os.getpid()))  # alive, and not the parent of this one
    parents.end_with_starter()
    assert "NEXTGPT_PARENT_PROCESS" not in os.environ


@pytest.mark.skipif(sys.platform != "linux", reason="the sender of a signal is known on Linux")
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_worker_ends_on_the_signal_of_its_parent_alone(method):
    loader = RowLoader(
        [0, 1],
        num_workers=1,
        worker_init_fn=parents.start_worker,
        multiprocessing_context=method,
        persistent_workers=True,
        timeout=120,
    )
    next(iter(loader))
    (worker,) = loader._iterator._workers
    for number in ("TERM", "INT"):
        subprocess.run(["/bin/sh", "-c", f"kill -{number} {worker.pid}"], check=True)
    worker.join(1)
    assert worker.is_alive()
    worker.terminate()
    worker.join(60)
    assert worker.exitcode == 0


@pytest.mark.skipif(sys.platform == "win32", reason="there is no such start method")
def test_a_worker_that_a_server_has_started_is_left_alone():
    worker = multiprocessing.get_context("forkserver").Process(target=parents.start_worker)
    worker.start()
    worker.join(60)
    assert worker.exitcode == 0


@pytest.mark.slow
def test_all_processes_of_a_run_end_when_the_first_is_killed(tmp_path):
    arguments = ["--trainer.accelerator=cpu", "--trainer.devices=3", f"--run.root={tmp_path}", "--model.samples=0"]
    experiment, strategy = (str(ROOT / "experiments" / f"{name}.yaml") for name in ("dec_align", "strategies/ddp"))
    command = [sys.executable, "-m", "nextgpt_pl", "fit", "-c", experiment, "-c", strategy, *arguments]
    run = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT, start_new_session=True
    )
    for line in run.stdout:
        if "run folder" in line:
            break
    children = []
    while len(children) < 2:  # they wait for the first one, for half an hour
        assert run.poll() is None
        listed = Path(f"/proc/{run.pid}/task/{run.pid}/children")
        children = listed.read_text().split() if listed.is_file() else pytest.skip("no list of children here")
    run.kill()
    try:
        run.communicate(timeout=120)  # the children hold the other end of the pipe
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(run.pid, signal.SIGKILL)
