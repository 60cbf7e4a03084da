"""Two processes against one: every stage, sharded and with DDP, under everything that may differ between processes.

All cells run in one launch of two processes and one of a single process, since starting a process takes longer than a
cell. What a cell is, ``helpers/cells.py`` says.
"""

import itertools
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import cells
import pytest
import torch

HELPERS = Path(__file__).parent / "helpers"
CELL_SECONDS = 240  # then it hangs: alone on a core the longest takes 5
_PATIENCE = 15  # for the other process to fail by itself, when one has


class Launch:
    """Processes that run the same cells; :meth:`finish` waits for them."""

    def __init__(self, world, found, models, out):
        self.cells, self.out = found, out
        self.logs = [out / f"{world}-{rank}.log" for rank in range(world)]
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        self.processes = [self._start(world, rank, port, models) for rank in range(world)]

    def _start(self, world, rank, port, models):
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        if world > 1:  # as torchrun says it
            environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "TORCHELASTIC_RUN_ID": "x"}
            environment |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "GROUP_RANK": "0"}
            environment |= {"WORLD_SIZE": str(world), "LOCAL_WORLD_SIZE": str(world)}
        names = [cell.name for cell in self.cells]
        command = [sys.executable, HELPERS / "run_cells.py", models, self.out, CELL_SECONDS, *names]
        with self.logs[rank].open("wb") as file:
            return subprocess.Popen([*map(str, command)], env=environment, stdout=file, stderr=subprocess.STDOUT)

    def finish(self):
        """Wait until all have ended, or one has failed and the others have had time to say so."""
        failed_at = None
        while any(process.poll() is None for process in self.processes):
            if failed_at is None and any(process.poll() for process in self.processes):
                failed_at = time.monotonic()
            if failed_at is not None and time.monotonic() - failed_at > _PATIENCE:
                self.stop()
            time.sleep(0.2)

    def stop(self):
        for process in self.processes:
            process.kill()
            process.wait()

    def failure(self):
        """Which cell each process was in when a process failed, with the end of what it said; ``None`` without one."""
        if not any(process.returncode for process in self.processes):
            return None
        said = [log.read_text(errors="replace") for log in self.logs]
        found = [_unfinished(text) for text in said]
        reports = [
            f"rank {rank}, exit code {process.returncode}, was in {cell}:\n{text[-4000:]}"
            for rank, (process, cell, text) in enumerate(zip(self.processes, found, said, strict=True))
        ]
        return "\n".join([*reports, *(difference(self.out, cell) for cell in sorted(set(found)))])


def _unfinished(log):
    begun = [line.split()[1] for line in log.splitlines() if line.startswith("begin ")]
    ended = {line.split()[1] for line in log.splitlines() if line.startswith("end ")}
    return next((name for name in begun if name not in ended), "none")


def difference(out, name):
    """Description of the first difference between the ranks' collectives in a cell; empty if there is none."""
    calls = [(out / f"{name}.{rank}.calls") for rank in (0, 1)]
    if not all(file.is_file() for file in calls):
        return ""
    lines = [file.read_text().splitlines() for file in calls]
    pairs = itertools.zip_longest(*lines, fillvalue="nothing more")
    for number, (first, second) in enumerate(pairs):
        if first != second:
            return f"{name}: collective {number} of rank 0 is {first!r}, of rank 1 {second!r}"
    return ""


class Results:
    """The results of all ranks; a missing cell fails with the reason."""

    def __init__(self, out, *launches):
        self.out, self.failures = out, [launch.failure() for launch in launches]

    def of(self, cell, rank=0):
        file = self.out / f"{cell.name}.{rank}.pt"
        if not file.is_file():
            reasons = [failure for failure in self.failures if failure]
            pytest.fail(f"{cell.name} has no result of rank {rank}:\n" + ("\n".join(reasons) or "no process failed"))
        return torch.load(file, weights_only=True)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    out = tmp_path_factory.mktemp("matrix")
    models = tmp_path_factory.mktemp("models")
    cells.save_models(models)
    launches = []
    try:
        for world, found in ((2, cells.TOGETHER), (1, cells.ALONE)):
            launches.append(Launch(world, found, models, out))
        for launch in launches:
            launch.finish()
    finally:
        for launch in launches:
            launch.stop()
    return Results(out, *launches)


def _same_numbers(found, wanted, where, tolerance):
    assert found.keys() == wanted.keys(), where
    for name, value in wanted.items():
        assert found[name] == pytest.approx(value, abs=tolerance, rel=tolerance), f"{where}: {name}"


@pytest.mark.slow
@pytest.mark.parametrize("cell", cells.TOGETHER, ids=lambda cell: cell.name)
def test_two_processes_agree_and_do_what_one_does(cell, results):
    ours, other = (results.of(cell, rank) for rank in (0, 1))
    assert not difference(results.out, cell.name)
    assert other["steps"] == ours["steps"], "the ranks logged different losses"
    assert other["final"] == ours["final"], "the ranks logged different validation values"
    for name, value in ours["trainables"].items():
        assert torch.equal(other["trainables"][name], value), f"the ranks hold different {name}"
    alone = results.of(cells.Cell(cell.stage, cell.feature))
    assert ours["whole_weights"] == other["whole_weights"] == 0, "whole weights outlive sharding"
    assert ours["start"].keys() == other["start"].keys() == alone["start"].keys()
    for name, value in alone["start"].items():
        assert torch.equal(ours["start"][name], value), f"training starts with another {name} than one process"
        assert torch.equal(other["start"][name], value), f"rank 1 starts with another {name} than one process"
    epochs = 2 if cell.feature == "resumed" else 1
    assert len(ours["steps"]) == len(alone["steps"]) == epochs * len(cell.batches)
    for number, (step, wanted) in enumerate(zip(ours["steps"], alone["steps"], strict=True)):
        _same_numbers(step, wanted, f"step {number}", 1e-4)
    assert ours["trainables"].keys() == alone["trainables"].keys()
    for name, value in alone["trainables"].items():
        torch.testing.assert_close(
            ours["trainables"][name], value, atol=2e-4, rtol=2e-4, msg=lambda m, n=name: f"{n}: {m}"
        )
    assert ours["adapter"].keys() == alone["adapter"].keys() >= ours["trainables"].keys()
    assert all(torch.equal(ours["adapter"][name], value) for name, value in ours["trainables"].items())
    # two of the captions per process: other ones than those of a single process
    comparable = {k for k in alone["final"] if cell.feature != "uneven" or not k[4:5].isupper()}
    final, wanted = ({k: v for k, v in found["final"].items() if k in comparable} for found in (ours, alone))
    _same_numbers(final, wanted, "validation", 1e-3)
