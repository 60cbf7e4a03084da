"""The ``data:`` block of a YAML that trains from converted sources."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from nextgpt_pl.converting.plan import BOTH
from nextgpt_pl.datamodules.sources import Source

FILE = "data.yaml"
_LONGEST = 100  # characters of a folder's name
_UNSAFE = re.compile(r"[^\w.-]+", re.ASCII)


def folder_names(sources: Sequence[Source]) -> list[str]:
    """A folder for each source, by its name."""
    names: list[str] = []
    for source in sources:
        name = _UNSAFE.sub("-", source.name).strip(".-")[:_LONGEST] or type(source).__name__.lower()
        number = sum(known == name or re.fullmatch(rf"{re.escape(name)}-\d+", known) is not None for known in names)
        names.append(f"{name}-{number + 1}" if number else name)
    return names


def data_block(class_path: str, sources: Sequence[Source], folders: Sequence[Path], suffix: str) -> str:
    """The YAML: the data module with a source for each folder.

    Args:
        class_path: of the data module.
        sources: the sources that were converted; names and ``on_error`` are theirs.
        folders: of their shards.
        suffix: of the shards' names.

    """
    entries = [_entry(source, folder, suffix) for source, folder in zip(sources, folders, strict=True)]
    block = {"data": {"class_path": class_path, "init_args": {"sources": entries}}}
    return yaml.safe_dump(block, sort_keys=False, allow_unicode=True, width=120)


def _entry(source: Source, folder: Path, suffix: str) -> dict[str, Any]:
    split = [name for name in (BOTH, "train", "val") if (folder / name).is_dir()]
    files = [f"{name}/*{suffix}" for name in split] or [f"*{suffix}"]
    arguments = {"root": str(folder), "files": files, "name": source.name or folder.name, "on_error": source.on_error}
    return {"class_path": "nextgpt_pl.datamodules.DataFiles", "init_args": arguments}
