import io
import json
import os
import signal
import socket
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from PIL import Image

PROGRAM = Path(__file__).parent.parent / "helpers" / "run_stream.py"
_SECONDS = 400  # then it hangs


def _write_shard(path, numbers):
    with tarfile.open(path, "w") as archive:
        for number in numbers:
            image = io.BytesIO()
            Image.new("RGB", (16, 16), (number, 40, 90)).save(image, "PNG")
            for ending, content in {"png": image.getvalue(), "txt": f"number {number}".encode()}.items():
                info = tarfile.TarInfo(f"{number:06d}.{ending}")
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))


def _run(*arguments):
    """Run both processes to their ends; their exit codes and what they said."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    processes = []
    for rank in range(2):
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        environment |= {"TORCHELASTIC_RUN_ID": "x", "RANK": str(rank), "LOCAL_RANK": str(rank), "GROUP_RANK": "0"}
        environment |= {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
        command = [sys.executable, PROGRAM, *arguments]
        processes.append(
            subprocess.Popen([*map(str, command)], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        )
    try:
        said = [process.communicate(timeout=_SECONDS)[0].decode(errors="replace")[-3000:] for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [process.returncode for process in processes], said


def _steps(out, run):
    """The numbers of each step's items, per rank."""
    return [[json.loads(line) for line in (out / f"{run}.{rank}").read_text().splitlines()] for rank in range(2)]


@pytest.mark.slow
def test_two_processes_end_their_epochs_see_each_sample_once_and_resume_after_a_kill(tiny_models, tmp_path):
    _write_shard(tmp_path / "0.tar", range(10))
    _write_shard(tmp_path / "1.tar", range(10, 30))
    codes, said = _run(tiny_models, tmp_path, tmp_path, "killed")
    whole = _steps(tmp_path, "whole")
    for first in (0, 4):  # the steps of both epochs
        epoch = [[number for step in steps[first : first + 4] for number in step] for steps in whole]
        assert [len(numbers) for numbers in epoch] == [15, 15]
        assert sorted(epoch[0] + epoch[1]) == list(range(30))
    assert whole[0][:4] != whole[0][4:]
    assert codes == [-signal.SIGKILL] * 2, said
    codes, said = _run(tiny_models, tmp_path, tmp_path, "resumed")
    assert codes == [0, 0], said
    killed, resumed = _steps(tmp_path, "killed"), _steps(tmp_path, "resumed")
    for rank in range(2):
        assert len(whole[rank]) == 8
        assert killed[rank] == whole[rank][:3]
        assert resumed[rank] == whole[rank][2:]
