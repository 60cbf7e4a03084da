"""``test`` and ``evaluate``: write a run's replies to the tasks of a YAML, and compute scores from these files."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import yaml

from nextgpt_pl.config.trust import instantiate
from nextgpt_pl.config.yaml_files import check_files, read_yaml
from nextgpt_pl.errors import UserError
from nextgpt_pl.utils.atomic import write_atomic
from nextgpt_pl.utils.paths import CHAT_RUN, results_folder, run_folder
from nextgpt_pl.verbs.command import add_arguments, call, parser_of

_CONFIG = "evaluation.yaml"


@dataclass
class Settings:
    """Ask a run the questions of tasks, and score the replies.

    Args:
        temperature: sampling temperature of the text; 0 is greedy decoding.
        seed: seed of media and text.
        run: folder of the run that answers; by default that of the package.
        out: folder of the predictions; by default RUN/eval/NAME, after the tasks' YAML; outputs/chat stands for the run
            of the package.
        count: maximum number of items per task; a task's own count may be smaller.
        trust: dotted names of classes outside this package that the run may name, such as my_package.MyEncoder.

    """

    temperature: float = 0.0
    seed: int = 0
    run: Path = CHAT_RUN
    out: Path | None = None
    count: int | None = None
    trust: Sequence[str] = ()


def parse(verb: str, argv: Sequence[str], *options: type) -> tuple[Any, Any]:
    """The parser of a verb that reads tasks, and the parsed arguments; no task is instantiated yet.

    Args:
        verb: name of the verb, for messages.
        argv: arguments behind the verb.
        options: dataclasses of further options, besides :class:`Settings`.

    Raises:
        UserError: a key or a value is invalid.

    """
    from nextgpt_pl.config.errors import config_files, parse_errors
    from nextgpt_pl.evaluation.tasks import Task

    for file in config_files(argv):
        check_files(file)
    parser = parser_of(verb, Settings)
    parser.add_argument("-c", "--config", action="config", help="YAML with the tasks")
    parser.add_argument("--tasks", type=list[Task], required=True, help="questions and their scores")
    names = [name for kind in (Settings, *options) for name in add_arguments(parser, kind)]
    with parse_errors(["tasks", *names]):
        return parser, parser.parse_args(list(argv))


def test(argv: Sequence[str]) -> int:
    """Answer the items that have no prediction yet, then score all; torchrun or srun split the items over all ranks."""
    run_tasks(*parse("test", argv[1:]))
    return 0


def run_tasks(parser: Any, config: Any) -> dict[str, Any]:
    """Run ``test`` with parsed arguments.

    Args:
        parser: parser of :func:`parse`.
        config: arguments of :func:`parse`.

    Returns:
        The content of ``scores.json`` on rank 0; empty on other ranks.

    Raises:
        UserError: no task has its data, or the folder has predictions of other settings or weights.

    """
    given = Path(config.config[-1].relative).stem if config.config else "tasks"
    folder = config.out or results_folder(config.run) / "eval" / given
    from nextgpt_pl.evaluation import run, shares
    from nextgpt_pl.pipeline import AnyToAny

    tasks = tasks_of(parser, config)
    with shares.joined() as device:
        present, missing = run.present(tasks)
        shares.by_first(partial(_start, parser, config, folder, missing))
        if not present:
            raise UserError("no task has its data, so nothing was answered; data check -c FILE lists what is missing")
        model = AnyToAny.from_run(config.run, device=device, trust=config.trust)
        run.predict(model, present, folder, temperature=config.temperature, seed=config.seed, shared=True)
        return _score(present, missing, config, folder)


def _start(parser: Any, config: Any, folder: Path, missing: Mapping[str, list[str]]) -> None:
    if config.out is None and not folder.resolve().is_relative_to(results_folder(config.run).resolve()):
        raise UserError(f"{folder}: a link out of the run's folder; give the folder of the predictions by --out")
    folder.mkdir(parents=True, exist_ok=True)
    _refuse_links(folder)
    _pin(parser, config, folder)
    print_missing(missing)


def _refuse_links(folder: Path) -> None:
    """Refuse a folder with links: a third party's folder must not redirect what is written into it."""
    link = next((path for path in folder.rglob("*") if path.is_symlink()), None)
    if link is not None:
        raise UserError(f"{link}: a link, which could redirect files out of the folder; remove it")


def evaluate(argv: Sequence[str]) -> int:
    """Parse and run ``evaluate``."""
    call(score_folder, argv, positional=["folder"])
    return 0


def score_folder(folder: Path, trust: Sequence[str] = ()) -> None:
    """Compute all scores of a folder of predictions again, without the model; torchrun or srun split the work.

    Args:
        folder: folder of predictions.jsonl and evaluation.yaml.
        trust: dotted names of classes outside this package that evaluation.yaml may name.

    Raises:
        UserError: the folder has no evaluation.yaml, or contains links.

    """
    if not (folder / _CONFIG).is_file():
        raise UserError(f"{folder}: no {_CONFIG} there; give a folder of predictions that `test` wrote")
    _refuse_links(folder)
    config, tasks = _read(folder / _CONFIG, trust)
    from nextgpt_pl.evaluation import shares

    with shares.joined():
        _score(tasks, {}, config, folder)


def _read(file: Path, trust: Sequence[str]) -> tuple[Any, list[Any]]:
    """Settings and tasks that ``test`` saved in a folder; untrusted, see :mod:`nextgpt_pl.config.trust`."""
    from nextgpt_pl.evaluation.tasks import Task

    saved = read_yaml(file)
    if not isinstance(saved, dict) or "tasks" not in saved or not all(isinstance(key, str) for key in saved):
        raise UserError(f"{file}: it has no tasks, or a key that is no text")
    config = SimpleNamespace(**{"run": None, "temperature": None, "seed": None, "count": None, **saved})
    if not isinstance(config.count, int | None):
        raise UserError(f"{file}: count: a whole number is expected, got {config.count!r:.80}")
    return config, _counted(instantiate(saved["tasks"], list[Task], "tasks", trust), config.count)


def tasks_of(parser: Any, config: Any) -> list[Any]:
    """Instantiate the tasks of :func:`parse`.

    Raises:
        UserError: two tasks have the same name.

    """
    return _counted(parser.instantiate(config).tasks, config.count)


def _counted(tasks: Sequence[Any], count: int | None) -> list[Any]:
    """The tasks, with at most ``count`` items each; refuses tasks of equal names."""
    from nextgpt_pl.evaluation import run

    if count is not None:
        for task in tasks:
            task.count = count if task.count is None else min(task.count, count)
    run.check_names(tasks)
    return list(tasks)


def _pin(parser: Any, config: Any, folder: Path) -> None:
    """Save the configuration beside the predictions; refuse a folder with predictions of other settings or weights."""
    kept = config.clone()
    kept.pop("trust", None)  # trust is decided by the user, not by the file
    settings, weights = yaml.safe_load(parser.dump(kept, skip_none=False)), _weights(run_folder(config.run))
    file = folder / _CONFIG
    if file.is_file():
        known = read_yaml(file)
        known = dict(known) if isinstance(known, dict) else {}
        before = known.pop("answered_by", weights)  # folders of earlier versions have no hashes
        if known != settings or before != weights:
            which = "with other settings" if known != settings else "by other weights"
            raise UserError(f"{folder}: has predictions made {which}; give another --out, or remove the folder")
    content = {**settings, "answered_by": weights}
    write_atomic(file, yaml.safe_dump(content, sort_keys=False, allow_unicode=True))


def _weights(run: Path) -> dict[str, str]:
    """Hashes of the files that a run's replies depend on: configuration, adapter, and pocket weights in use."""
    from nextgpt_pl.adapter import WEIGHTS
    from nextgpt_pl.features.keys import file_sha256, fingerprint
    from nextgpt_pl.utils.paths import POCKET_PARTS, pocket_weights

    config = run / "config.yaml"
    hashes = {file.name: file_sha256(file) for file in (config, run / "adapter" / WEIGHTS) if file.is_file()}
    if config.is_file() and "pocket:" in config.read_text(encoding="utf-8"):
        root = pocket_weights()
        files = sorted(file for part in POCKET_PARTS for file in (root / part).rglob("*.safetensors"))
        hashes["pocket"] = fingerprint({file.relative_to(root).as_posix(): file_sha256(file) for file in files})
    return hashes


def print_missing(missing: Mapping[str, list[str]]) -> None:
    """Print what is missing of each task's data."""
    for name, messages in missing.items():
        print(f"{name}: not there: {'; '.join(messages)}")


def _score(tasks: Sequence[Any], missing: Mapping[str, list[str]], config: Any, folder: Path) -> dict[str, Any]:
    """Score on all ranks, and report on rank 0; empty on other ranks."""
    from nextgpt_pl.evaluation import report, run
    from nextgpt_pl.utils.distributed import rank

    record = run.score(tasks, folder, shared=True)
    if rank() > 0:
        return {}
    settings = {
        "run": config.run,
        "temperature": config.temperature,
        "seed": config.seed,
        "settings": f"{_CONFIG}, sha256 {hashlib.sha256((folder / _CONFIG).read_bytes()).hexdigest()[:16]}",
        "scored": datetime.now().strftime("%Y-%m-%d %H:%M"),
    }
    if missing:
        settings["not there"] = ", ".join(missing)
    if record["unscored"]:
        settings["predictions of unknown tasks, not scored"] = ", ".join(record["unscored"])
    written = report.write(record, settings, folder)
    width = shutil.get_terminal_size().columns
    for row in report.rows(record):
        print("  ".join(cell for cell in row if cell)[: max(width, 160)])
    print(f"report: {written}")
    return record
