"""Runs planned runs, each in its own process and run folder; finished runs are skipped."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nextgpt_pl.errors import UserError
from nextgpt_pl.reports.runs import Run
from nextgpt_pl.sweeps.records import Records, State
from nextgpt_pl.utils.parents import child_environment
from nextgpt_pl.utils.processes import locked, terminable

# number of failures without success after which the remaining runs are not started
_MAX_FAILURES = 3


@dataclass(frozen=True)
class Planned:
    """A planned run.

    Attributes:
        name: name of the run folder, below the experiment's.
        experiment: folder of the run folder, below the root.
        command: complete command line, without the arguments of the run folder.
        parameters: parameters of this run.

    """

    name: str
    experiment: str
    command: tuple[str, ...]
    parameters: Mapping[str, Any] = field(default_factory=dict)


class Runner:
    """Runs planned runs, and keeps a record and the output of each.

    Args:
        root: folder of all experiments.
        group: folder below it, with records and outputs in ``logs/``.
        metric: metric that is printed with the progress.
        jobs: number of parallel runs, among which the CPU cores are divided.

    """

    def __init__(self, root: Path, group: str, metric: str | None = None, jobs: int = 1) -> None:
        if jobs < 1:
            raise UserError(f"--jobs={jobs}: at least 1")
        self.root, self.group, self.metric, self.jobs = root, group, metric, jobs
        self.records = Records(root / group / "logs")
        self._turn = threading.Lock()
        self._running: list[subprocess.Popen[bytes]] = []
        self._stopped = False
        self._seconds: list[float] = []
        self._names: list[str] = []

    def key(self, planned: Planned) -> str:
        """A run's name among the records."""
        inner = planned.experiment.removeprefix(self.group).strip("/")
        return f"{inner}/{planned.name}" if inner else planned.name

    def folder(self, planned: Planned) -> Path:
        """A run's folder."""
        return self.root / planned.experiment / planned.name

    def is_done(self, planned: Planned) -> bool:
        """Whether the run is finished and its folder exists.

        Raises:
            UserError: the run was finished by another command.

        """
        record = self.records.get(self.key(planned))
        if record is None or record["state"] != "finished" or not self.folder(planned).is_dir():
            return False
        changed = set(record["command"]) ^ set(planned.command[1:])
        if changed:
            raise UserError(
                f"{self.folder(planned)} was made by another command (different: {' '.join(sorted(changed))}); "
                "move that folder away, or give another --root"
            )
        return True

    def run(self, plan: Iterable[Planned], names: Sequence[str] | None = None, count: int | None = None) -> int:
        """Run all missing runs and print a report.

        Args:
            plan: the runs; items of an iterator are requested when they are started.
            names: names of all runs of an iterator among the records.
            count: maximum number of runs in this call.

        Returns:
            0; 1 if runs failed; 130 if the user stopped it.

        """
        with locked(self.records.folder / "lock") as inherited, terminable(), ThreadPoolExecutor(self.jobs) as pool:
            self.records.read()  # another process may have finished runs while this one waited
            if isinstance(plan, Sequence):
                names = [self.key(planned) for planned in plan]
                for planned in plan:
                    self.is_done(planned)  # check all commands before the first run is started
            self._names = list(names or ())
            missing = self._missing(iter(plan), count)
            print(
                f"{self.root / self.group}: {len(self._names)} runs, {self._count('finished')} done before", flush=True
            )
            workers = [pool.submit(self._work, missing, inherited) for _ in range(self.jobs)]
            try:
                for worker in workers:
                    worker.result()
            except KeyboardInterrupt:
                self._stop()
                print("stopped; the same command goes on with what is missing")
                return 130
            except BaseException:
                self._stop()
                raise
        return self._report()

    def _count(self, state: State) -> int:
        return sum(self.records.state(name) == state for name in self._names)

    def _stop(self) -> None:
        self._stopped = True
        for process in list(self._running):
            process.terminate()

    def _missing(self, plan: Iterator[Planned], count: int | None) -> Iterator[Planned]:
        begun = 0
        for planned in plan:
            if self.is_done(planned):
                continue
            if count is not None and begun >= count:
                return
            begun += 1
            yield planned

    def _work(self, missing: Iterator[Planned], inherited: tuple[int, ...]) -> None:
        while True:
            with self._turn:
                planned = None if self._stopped else next(missing, None)
                if planned is None:
                    return
                self._remove_interrupted(planned)
                self._record(planned, "started")
            started = time.perf_counter()
            code = self._process(planned, inherited)
            with self._turn:
                if self._stopped:  # interrupted: neither finished nor failed
                    return
                self._record_end(planned, code, time.perf_counter() - started)

    def _remove_interrupted(self, planned: Planned) -> None:
        """Delete the folder of an interrupted run; a folder without record is an error."""
        folder = self.folder(planned)
        if not folder.exists():
            return
        if self.records.get(self.key(planned)) is None:
            raise UserError(f"{folder} exists, but was not made here; move it away, or give another --root")
        shutil.rmtree(folder)

    def _record(self, planned: Planned, state: State, **more: Any) -> None:
        command = planned.command[1:]
        self.records.put(self.key(planned), state, parameters=planned.parameters, command=command, **more)

    def _process(self, planned: Planned, inherited: tuple[int, ...]) -> int:
        place = [f"--run.root={self.root}", f"--run.experiment={planned.experiment}", f"--run.name={planned.name}"]
        environment = {**os.environ, **child_environment(), "PYTHONUNBUFFERED": "1"}
        if self.jobs > 1:
            environment["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // self.jobs))
        with self.records.output(self.key(planned)).open("wb") as output:
            process = subprocess.Popen(
                [*planned.command, *place], stdout=output, stderr=output, env=environment, pass_fds=inherited
            )
            self._running.append(process)
            code = process.wait()
        self._running.remove(process)
        return code

    def _record_end(self, planned: Planned, code: int, seconds: float) -> None:
        self._seconds.append(seconds)
        self._record(planned, "failed" if code else "finished", exit_code=code, seconds=round(seconds, 1))
        print(self._progress(planned, code, seconds), flush=True)
        if len(self._seconds) == _MAX_FAILURES == self._count("failed") and not self._count("finished"):
            print(f"all of the first {_MAX_FAILURES} runs failed: the others are not tried")
            self._stopped = True

    def _progress(self, planned: Planned, code: int, seconds: float) -> str:
        total, done = len(self._names), self._count("finished") + self._count("failed")
        key, left = self.key(planned), total - done
        value = None if code else self.value(planned)
        outcome = "finished" if value is None else f"{self.metric} {value:.4g}"
        if code:
            outcome = f"FAILED with exit code {code}: {self.records.last_line(key)}"
        wait = sum(self._seconds) / len(self._seconds) * left / self.jobs / 60
        ahead = f"; {left} left, about {wait:.0f} min" if left else ""
        return f"[{done}/{total}] {key}: {outcome}; {seconds:.0f} s{ahead}"

    def value(self, planned: Planned) -> float | None:
        """The metric's last value in a finished run, if it was logged."""
        return Run(self.folder(planned)).final.get(self.metric) if self.metric else None

    def _report(self) -> int:
        failed = [name for name in self._names if self.records.state(name) == "failed"]
        missing = len(self._names) - self._count("finished") - len(failed)
        line = f"{self.root / self.group}: {self._count('finished')} of {len(self._names)} runs finished"
        print(f"{line}, {len(failed)} failed" + (f", {missing} missing" if missing else ""))
        for name in failed:
            print(f"  {name} failed, see {self.records.output(name)}; the same command tries it again")
        return 1 if failed else 0
