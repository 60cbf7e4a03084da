"""Commands that send themselves a signal at a given moment.

``signalled_fit.py MOMENT VERB ...`` runs one command. ``signalled_fit.py`` alone forks a process per line of its input,
a JSON object with ``moment``, ``argv`` and ``log``, and answers with the exit code: importing takes longer than a fit.

A moment is a JSON object: ``signal``, ``nth`` (from 1), and one of

- ``event``: a file event below the folder ``watched``, such as ``rename checkpoints/step_000002.ckpt``; names of shards
  are ``SHARD``, and temporary files and stores have no random part. The signal comes right before it; with
  ``middle``, when half of the first bytes are in the file that it opens.
- ``call``: a function ``module:name``. The signal comes right before the call.

With ``trace`` all events are appended to this file. Without ``signal`` nothing is sent.
"""

import builtins
import contextlib
import functools
import importlib
import io
import json
import os
import re
import signal
import sys
import traceback
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent.parent))

_SLOW = ("torch", "lightning", "transformers", "diffusers", "matplotlib", "PIL", "scipy", "jinja2", "nextgpt_pl")
_WRITING = os.O_WRONLY | os.O_RDWR


class Moment:
    """Counts events and calls, and sends the signal at the right one."""

    def __init__(self, watched, signal=None, nth=1, event=None, call=None, middle=False, trace=None):
        self.watched, self.number, self.left = str(watched), signal, nth
        self.event, self.call, self.middle = event, call, middle
        self.trace = None if trace is None else Path(trace).open("a", buffering=1)  # noqa: SIM115
        self.in_file = False

    def install(self):
        sys.addaudithook(self._heard)
        if self.middle:
            builtins.open = io.open = self._opening(io.open)
        if self.call is not None:
            module, _, path = self.call.partition(":")
            *owners, name = path.split(".")
            owner = functools.reduce(getattr, owners, importlib.import_module(module))
            setattr(owner, name, self._before(getattr(owner, name)))

    def send(self):
        os.kill(os.getpid(), getattr(signal, self.number))

    def _count(self):
        self.left -= 1
        return self.left == 0 and self.number is not None

    def _heard(self, name, arguments):
        text = _described(name, arguments, self.watched)
        if text is None:
            return
        if self.trace is not None:
            self.trace.write(text + "\n")
        if text == self.event and self._count():
            self.in_file = self.middle
            if not self.middle:
                self.send()

    def _opening(self, open_file):
        def opened(*args, **kwargs):
            file = open_file(*args, **kwargs)
            if self.in_file:
                self.in_file = False
                return _Half(file, self.send)
            return file

        return opened

    def _before(self, function):
        @functools.wraps(function)
        def call(*args, **kwargs):
            if self._count():
                self.send()
            return function(*args, **kwargs)

        return call


class _Half:
    """A file whose first write ends with half of its bytes."""

    def __init__(self, file, act):
        self._file, self._act = file, act

    def __getattr__(self, name):
        return getattr(self._file, name)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._file.close()

    def write(self, data):
        self._file.write(data[: len(data) // 2])
        self._file.flush()
        self._act()
        return self._file.write(data[len(data) // 2 :])


def _described(name, arguments, watched):
    """An audit event as text, if it changes a file below a folder."""
    kind = {"os.rename": "rename", "os.remove": "remove", "os.symlink": "symlink", "os.mkdir": "mkdir"}.get(name)
    if kind is None:
        if name != "open" or not _writes(*arguments[1:3]):
            return None
        kind = "open"
    path = arguments[1] if kind in ("rename", "symlink") else arguments[0]
    if not isinstance(path, (str, os.PathLike)) or not Path(path).absolute().is_relative_to(watched):
        return None
    relative = os.path.relpath(path, watched)
    shards = re.sub(r"[0-9]{20}-[0-9a-f]{12}", "SHARD", relative)
    return f"{kind} {re.sub(r'[.][0-9a-f]{16}(?=[.]partial)|-[0-9a-f]{16}(?=/)', '', shards)}"


def _writes(mode, flags):
    return bool(flags & _WRITING) if mode is None else any(letter in mode for letter in "wax+")


def run(moment, argv):
    """The exit code of a command, run in this process."""
    from nextgpt_pl.__main__ import main

    for number in (signal.SIGINT, signal.SIGHUP):  # processes in the background ignore them
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    if "LOCAL_RANK" not in os.environ:  # the first process
        Moment(**moment).install()
    return main(argv)


def _forked(moment, argv, log):
    """Run a command in a child process; its exit code, or minus the signal that ended it."""
    names, child = os.pipe(), os.fork()
    if child:
        os.close(names[1])
        with open(names[0]) as imported:  # noqa: PTH123 (a descriptor)
            _import(imported.read().split())
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    os.close(names[0])
    code = 1
    try:
        file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, 1)
        os.dup2(file, 2)
        code = run(moment, argv)
    except SystemExit as error:
        code = error.code
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os.write(names[1], "\n".join(sys.modules).encode())
        os._exit(code)


def _import(names):
    """Import what a command has imported, so that the next one need not."""
    for name in names:
        if name not in sys.modules and name.partition(".")[0] in _SLOW:
            with contextlib.suppress(Exception):
                importlib.import_module(name)


def main():
    if sys.argv[1:]:
        sys.exit(run(json.loads(sys.argv[1]), sys.argv[2:]))
    import nextgpt_pl.datamodules
    import nextgpt_pl.evaluation.validation
    import nextgpt_pl.features.disk
    import nextgpt_pl.reports.run_page
    import nextgpt_pl.stages
    import nextgpt_pl.verbs.training  # noqa: F401

    for line in sys.stdin:
        print(_forked(**json.loads(line)), flush=True)


if __name__ == "__main__":
    main()
