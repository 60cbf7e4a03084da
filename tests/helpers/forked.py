"""Commands in children of one process that has imported everything, so that each starts at once and ends alone.

``with Forked() as forked: forked.run(["fit", ...], folder)``; as a program it is that process.
"""

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MEMORY = 8 * 2**30  # bytes of a child's own memory
CPU_SECONDS = 90
SECONDS = 180.0
_SIGNALS = {signal.SIGINT, signal.SIGHUP, signal.SIGTERM, signal.SIGUSR1}
_IMPORTED = (
    "nextgpt_pl.__main__",
    "nextgpt_pl.verbs.training",
    "nextgpt_pl.stages",
    "nextgpt_pl.datamodules",
    "nextgpt_pl.encoders",
    "nextgpt_pl.projections",
    "nextgpt_pl.llm",
    "nextgpt_pl.sizing.operations",
    "nextgpt_pl.reports.run_page",
    "transformers.models.llama.modeling_llama",
    "lightning.pytorch.loggers",
    "pyarrow",
)


@dataclass(frozen=True)
class Ended:
    """A command that has ended.

    Attributes:
        code: exit code; minus the number of the signal that has killed it; ``None``: it had to be killed.
        output: standard output and error.
        seconds: how long it took.

    """

    code: int | None
    output: str
    seconds: float


class Forked:
    """The process that forks a child per command."""

    def __enter__(self) -> "Forked":
        environment = {**os.environ, "WANDB_MODE": "disabled", "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self._server = subprocess.Popen([sys.executable, __file__], env=environment, **pipes)
        return self

    def __exit__(self, *_: object) -> None:
        self._server.communicate(timeout=60)

    def run(self, argv: Sequence[str], folder: Path, signals: Sequence[tuple[float, int]] = ()) -> Ended:
        """Run a command in a folder, and send it signals: seconds after the start, and numbers."""
        request = {"argv": list(argv), "folder": str(folder), "signals": list(signals)}
        self._server.stdin.write(json.dumps(request) + "\n")
        self._server.stdin.flush()
        return Ended(**json.loads(self._server.stdout.readline()))


def _serve() -> None:
    import importlib

    for name in _IMPORTED:
        importlib.import_module(name)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    for line in sys.stdin:
        answers.write(json.dumps(_run(json.loads(line))) + "\n")
        answers.flush()


def _run(request: dict[str, Any]) -> dict[str, Any]:
    log = Path(request["folder"]) / ".output"
    began = time.perf_counter()
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)  # until the child has its handlers
    child = os.fork()
    if not child:
        _become(request["argv"], request["folder"], log)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
    pending = sorted(map(tuple, request["signals"]))
    killed = False
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            break
        now = time.perf_counter() - began
        while pending and pending[0][0] <= now:
            os.kill(child, pending.pop(0)[1])
        if now > SECONDS and not killed:
            killed = True
            os.kill(child, signal.SIGKILL)
        time.sleep(0.002)
    code = os.waitstatus_to_exitcode(status)
    stopped = killed or code in (-signal.SIGXCPU, -signal.SIGKILL)
    seconds = time.perf_counter() - began
    return {"code": None if stopped else code, "output": log.read_text(errors="replace"), "seconds": seconds}


def _become(argv: list[str], folder: str, log: Path) -> None:
    """The child: as an interpreter that runs ``python -m nextgpt_pl``, but for its imports."""
    from nextgpt_pl.__main__ import main

    code = 1
    with contextlib.suppress(BaseException):
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(output, 1)
        os.dup2(output, 2)
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS + 5))
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        os.chdir(folder)
        sys.path[0] = folder
        sys.argv = ["nextgpt_pl", *argv]
        try:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        except KeyboardInterrupt:
            os._exit(128 + signal.SIGINT)
        try:
            code = main(argv)
        except SystemExit as exit_:
            code = exit_.code if isinstance(exit_.code, int) else 1
        except BaseException:
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    _serve()
