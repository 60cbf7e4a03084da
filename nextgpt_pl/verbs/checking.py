"""``data check``: open all files of an experiment's or evaluation's data, and report items that cannot be used."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from nextgpt_pl.config.errors import config_files
from nextgpt_pl.config.yaml_files import read_yaml
from nextgpt_pl.errors import UserError
from nextgpt_pl.verbs.command import helped, options_of

if TYPE_CHECKING:
    from nextgpt_pl.datamodules.checked_media import OpenedFile

_LISTED = 20
_OUT = Path("outputs/data_check")
DATABASE = "opened.sqlite"


@dataclass
class Tally:
    """Counts and lists the findings.

    Attributes:
        list: JSONL file of the findings: unusable and shortened items, and broken files.
        counts: number of findings per kind.
        stops: whether a finding stops a run.
        opened: number of files that were opened.
        known: number of files whose result was in the database.

    """

    list: TextIO
    counts: dict[str, int] = field(default_factory=dict)
    stops: bool = False
    opened: int = 0
    known: int = 0

    def files(self, of_item: Sequence[OpenedFile]) -> None:
        """Count the files of an item."""
        opened = sum(file.anew for file in of_item)
        self.opened, self.known = self.opened + opened, self.known + len(of_item) - opened

    def note(self, where: str, kind: str, key: str, reason: str) -> None:
        """Count and list a finding; the first ones of each kind are printed."""
        self.counts[kind] = self.counts.get(kind, 0) + 1
        self.list.write(json.dumps({"where": where, "kind": kind, "key": key, "reason": reason}) + "\n")
        if self.counts[kind] <= _LISTED:
            print(f"  {kind}: {reason}")
        elif self.counts[kind] == _LISTED + 1:
            print(f"  {kind}: more, see {self.list.name}")


@dataclass
class Options:
    """Options of ``data check``; the other arguments are keys of the YAML, as for ``fit`` or ``test``.

    Args:
        workers: number of processes that open files; 0 opens them in the main process.
        checked: folder of the list of findings and of the database of checked files.

    """

    workers: int = min(8, os.cpu_count() or 1)
    checked: Path = _OUT

    def __post_init__(self) -> None:
        if self.workers < 0:
            raise UserError(f"--workers={self.workers}: expected at least 0, where 0 opens files in the main process")


def check(arguments: list[str]) -> int:
    """Run ``data check -c FILE``.

    Returns:
        0 if all data are usable or skipped, 1 if a task's data are missing, 2 if a run would stop.

    Raises:
        UserError: the configuration is invalid.

    """
    if helped(arguments, "data check", Options):
        return 0
    if _has_tasks(config_files(arguments)):
        return _check_tasks(arguments)
    return _check_experiment(arguments)


def _has_tasks(files: Sequence[Path]) -> bool:
    return any(isinstance(content, dict) and "tasks" in content for content in map(read_yaml, files))


@contextmanager
def tallied(name: str, folder: Path) -> Iterator[Tally]:
    """Yield a tally that writes ``folder/NAME.jsonl``; its counts are printed at the end."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{name}.jsonl").open("w", encoding="utf-8") as file:
        tally = Tally(file)
        yield tally
    sums = ", ".join(f"{count} {kind}" for kind, count in tally.counts.items()) or "nothing wrong"
    print(f"{tally.opened} files opened, {tally.known} already checked: {sums}; list: {tally.list.name}")


def _check_tasks(arguments: list[str]) -> int:
    """Check the data of an evaluation's tasks; items that cannot be read stop no run, since ``test`` skips them."""
    from nextgpt_pl.datamodules.check import check_all
    from nextgpt_pl.evaluation import run
    from nextgpt_pl.evaluation.readable import check_item
    from nextgpt_pl.verbs.evaluation import parse, print_missing, tasks_of

    parser, config = parse("data check", arguments, Options)
    options = options_of(config, Options)
    present, missing = run.present(tasks_of(parser, config))
    with tallied(config_files(arguments)[-1].stem, options.checked) as tally:
        for task in present:
            print(f"{task.name}: there", flush=True)
            numbered, remarks = run.items_of(task)
            for remark, count in remarks.items():
                print(f"  {count} rows {remark}")
            items = [item for _, item in numbered]
            for one in check_all(items, check_item, options.checked / DATABASE, options.workers, task.name):
                tally.files(one.files)
                if one.fault:
                    tally.note(task.name, "items that cannot be used", one.key, one.fault)
    print_missing(missing)
    return 1 if missing else 0


def _check_experiment(arguments: list[str]) -> int:
    from nextgpt_pl.training.cli import build_with_options

    stage, data, config = build_with_options(arguments, Options)
    options = options_of(config, Options)
    usable = Counter[tuple[str, Hashable]]()
    with tallied(config_files(arguments)[-1].stem, options.checked) as tally:
        for source in data.sources:
            usable.update(_check_source(stage, data, source, tally, options.checked / DATABASE, options.workers))
        if tally.stops:
            print("fit will stop at these items: repair them, or set on_error: skip")
        else:
            _check_groups(data, usable, tally)
    return 2 if tally.stops else 0


def _check_groups(data: Any, usable: Mapping[tuple[str, Hashable], int], tally: Tally) -> None:
    """Find what stops a run even with ``on_error: skip``: a split without items, or a group without usable items."""
    for split in ("train", "val"):
        groups = {group: count for (side, group), count in usable.items() if side == split}
        try:
            shares = data.shares(list(groups)) if split == "train" and groups else None
        except UserError as error:
            wrong = [str(error)]
        else:
            drawn = [group for group in groups if shares is None or shares.get(group)]
            wrong = [f"none of the items of {group} can be used" for group in drawn if not groups[group]]
        for reason in wrong if groups else ["no source has an item of this split"]:
            print(f"{split}: {reason}: fit will stop")
            tally.stops = True


def _check_source(
    stage: Any, data: Any, source: Any, tally: Tally, database: Path, workers: int
) -> Counter[tuple[str, Hashable]]:
    """Check a source's items, and return the number of usable ones per split and group."""
    from nextgpt_pl.datamodules.check import ItemCheck, check_all
    from nextgpt_pl.datamodules.kinds import KINDS, kind_codes
    from nextgpt_pl.datamodules.usable import RowMaker

    skips, conversation = source.on_error == "skip", data.conversation()
    check = ItemCheck(
        RowMaker(conversation.rows, data.max_length, embedding_shapes=conversation.embedding_shapes),
        skips,
        stage.reader.files,
    )
    usable = Counter[tuple[str, Hashable]]()
    for split in ("train", "val"):
        try:
            if split == "val" and source.validates_on_training():
                continue
            items = source.read(split)
        except UserError as error:
            print(f"{split}: {error}")
            tally.stops = True
            return usable
        print(f"{split}: {source.report.message()}", flush=True)
        if split == "train":
            for reason in source.report.broken:
                tally.note(split, "rows broken", reason.split(": ")[0], reason)
        title = f"{split} {source.name or type(source).__name__}"
        checked = check_all(items, check, database, workers, title)
        sides = ("train", "val") if source.validates_on_training() else (split,)
        for kind, one in zip(kind_codes(items), checked, strict=True):
            for side in sides:
                usable[side, data.group(KINDS[kind], source.name)] += one.fault is None
            tally.files([*one.files, *one.unread])
            if one.fault:
                tally.note(split, "items that cannot be used", one.key, one.fault)
                tally.stops |= not skips
            elif one.shortened:
                reason = f"{one.key}: its oldest {one.shortened} messages do not fit into {data.max_length} tokens"
                tally.note(split, "dialogues that are shortened", one.key, reason)
            for file in one.unread:
                if file.fault and not one.fault:
                    tally.note(split, "broken files that this stage does not read", one.key, f"{one.key}: {file.fault}")
    return usable
