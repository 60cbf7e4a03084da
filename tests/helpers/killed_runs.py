"""Small runs that are killed or interrupted at given moments, resumed by the same command, and compared."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import torch
import yaml

from nextgpt_pl.training.resuming import occupied

HELPER = Path(__file__).parent / "signalled_fit.py"
ROOT = HELPER.parent.parent.parent
IMAGES = [
    "--trainer.max_steps=4",
    "--trainer.val_check_interval=2",
    "--trainer.limit_val_batches=2",
    "--trainer.log_every_n_steps=1",
    "--trainer.num_sanity_val_steps=0",
    "--trainer.enable_progress_bar=false",
    "--data.batch_size=2",
    "--data.val_batch_size=2",
]


def experiment(folder, name):
    """The YAML of a pocket experiment, reduced to few rows and, before stage 3, to images, as a file in ``folder``."""
    content = yaml.safe_load((ROOT / "experiments" / f"{name}.yaml").read_text())
    content["trainer"].pop("callbacks", None)
    network = yaml.safe_load((ROOT / "experiments" / "models" / "pocket.yaml").read_text())
    arguments = network["init_args"]
    if name != "instruct":  # whose dialogues have all media
        arguments["decoders"] = {"image": arguments["decoders"]["image"]}
        arguments["decoders"]["image"]["init_args"]["sampling"]["num_inference_steps"] = 1
    arguments["output_projection"]["init_args"]["width"] = 16
    arguments["input_projection"]["init_args"]["width"] = 16
    stage, data = content["model"]["init_args"], content["data"]["init_args"]
    stage["network"] = network
    stage.pop("alignment_weights", None)
    if name == "enc_align":
        stage |= {"captions": 2, "max_new_tokens": 4, "word_steps": 2}
    else:
        stage["samples"] = 0 if name == "instruct" else 1
    data.pop("weights", None)
    source = {"train_size": 10, "val_size": 4}
    source |= {"routes": ["image->text", "text->image"]} if name == "instruct" else {"modalities": ["image"]}
    data["sources"][0]["init_args"] = source
    file = folder / f"{name}.yaml"
    file.write_text(yaml.safe_dump(content))
    return file


class Fits:
    """A process that has imported everything, and forks one for each command."""

    def __init__(self):
        environment = {**os.environ, "WANDB_MODE": "disabled", "OMP_NUM_THREADS": "1"}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen([sys.executable, str(HELPER)], env=environment, **pipes)

    def __call__(self, argv, log, **moment):
        """The exit code of a command, or minus the signal that ended it, and what it said."""
        order = {"moment": moment, "argv": [*map(str, argv)], "log": str(log)}
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline()), log.read_text(errors="replace")

    def close(self):
        self.process.stdin.close()
        self.process.wait()


class AsTwo:
    """Runs a command as two processes, of which the first one gets the signal."""

    def __call__(self, argv, log, **moment):
        environment = {**os.environ, "WANDB_MODE": "disabled", "OMP_NUM_THREADS": "1"}
        command = [sys.executable, str(HELPER), json.dumps(moment), *map(str, argv)]
        with log.open("w") as file:
            code = subprocess.run(command, env=environment, stdout=file, stderr=file, check=False).returncode
        return code, log.read_text(errors="replace")


class Run:
    """A command that starts and resumes a run, in a root folder of its own.

    Args:
        fits: runs the command.
        root: a new folder.
        file: the experiment's YAML.
        extra: more arguments; ``ROOT`` in them is the root.

    """

    def __init__(self, fits, root, file, *extra):
        root.mkdir(parents=True)
        self.fits, self.root, self.folder = fits, root, root / "e" / "r"
        self.argv = ["fit", "-c", file, *IMAGES, "--run.resume=true", "--run.experiment=e", "--run.name=r"]
        self.argv += [*(str(argument).replace("ROOT", str(root)) for argument in extra), f"--run.root={root}"]

    def __call__(self, event=None, **moment):
        """See ``signalled_fit.py``; a path of the event is in the run's folder, or begins with ``cache/``."""
        if event is not None:
            kind, path = event.split(" ")
            moment["event"] = event if path.startswith("cache/") else f"{kind} e/r/{path}"
        return self.fits(self.argv, self.root / "log", watched=str(self.root), **moment)

    def interrupted(self, number, **moment):
        """Interrupt the run at a moment, and resume it until it ends; the first exit code and what the run said."""
        code, said = self(signal=number, **moment)
        again, later = self() if code else (0, "")
        assert again == 0, f"not resumed after {moment}:\n{said}\n{later}"
        assert "Traceback" not in said + later, said + later
        return code, said


def difference(run, wanted):
    """The first difference between the folders of two runs that does not come from time; ``None`` without one."""
    names = [_names(each.folder) for each in (run, wanted)]
    if names[0] != names[1]:
        return f"files: {sorted(names[0] ^ names[1])}"
    for name in sorted(names[0]):
        found, expected = (_content(each, each.folder / name) for each in (run, wanted))
        if (place := _unequal(found, expected, name)) is not None:
            return place
    with occupied(run.folder):  # the lock was released
        return None


def _names(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}


def _content(run, path):
    if path.name == "metrics.csv":
        with path.open(newline="") as file:
            return [{k: v for k, v in row.items() if v and not k.startswith("speed/")} for row in csv.DictReader(file)]
    if path.is_symlink():
        return str(path.readlink())
    if path.suffix == ".ckpt":
        return torch.load(path, weights_only=True)
    if path.name in ("index.html", "index.md", "curves.png"):  # with the speed
        return path.stat().st_size > 0
    return path.read_bytes().replace(str(run.root).encode(), b"")


def _unequal(found, expected, place):
    """Where two nested values differ; paths in them are compared by their last parts."""
    if isinstance(found, dict) and isinstance(expected, dict):
        if _keys(found) != _keys(expected):
            return f"{place}: {sorted(_keys(found) ^ _keys(expected))}"
        pairs = zip(sorted(found.items(), key=_key), sorted(expected.items(), key=_key), strict=True)
        inner = (_unequal(a, b, f"{place} {k}") for (k, a), (_, b) in pairs)
    elif isinstance(found, (list, tuple)) and isinstance(expected, (list, tuple)) and len(found) == len(expected):
        inner = (_unequal(a, b, f"{place} {i}") for i, (a, b) in enumerate(zip(found, expected, strict=True)))
    elif isinstance(found, torch.Tensor) and isinstance(expected, torch.Tensor):
        return None if torch.equal(found, expected) else f"{place}: {found} instead of {expected}"
    else:
        return None if _short(found) == _short(expected) else f"{place}: {found!r:.300} instead of {expected!r:.300}"
    return next((where for where in inner if where is not None), None)


def _short(value):
    return Path(value).name if isinstance(value, str) and value.startswith("/") else value


def _keys(content):
    return {str(_short(key)) for key in content}


def _key(item):
    return str(_short(item[0]))
