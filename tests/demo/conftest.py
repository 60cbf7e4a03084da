import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
from served import until


@pytest.fixture(scope="session")
def outputs(tmp_path_factory):
    """A folder of two runs, ``instruct/one`` and ``instruct/two``, which are the same model."""
    import shutil

    from demo_runs import save_run

    folder = tmp_path_factory.mktemp("outputs")
    shutil.copytree(save_run(folder / "instruct" / "one"), folder / "instruct" / "two")
    return folder


@pytest.fixture
def served_demo(tmp_path):
    """Starts the command ``demo``, whose temporary files are in ``folder``, and waits for its page."""
    started = []

    def served_demo(run):
        folder, log = tmp_path / "temporary", tmp_path / "demo.log"
        folder.mkdir()
        command = [sys.executable, "-m", "nextgpt_pl", "demo", "--run", str(run), "--port", "0"]
        with log.open("w") as file:
            process = subprocess.Popen(command, stdout=file, stderr=file, env={**os.environ, "TMPDIR": str(folder)})
        started.append(process)
        until(lambda: "chat page" in log.read_text() or process.poll() is not None, seconds=200)
        address = log.read_text().split()[-1]
        return SimpleNamespace(process=process, folder=folder, log=log, address=address)

    yield served_demo
    for process in started:
        process.kill()
        process.wait()
