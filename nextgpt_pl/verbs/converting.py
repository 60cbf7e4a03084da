"""``data convert``: an experiment's data as tar shards or Parquet files."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from nextgpt_pl.config.errors import config_files
from nextgpt_pl.errors import at_least
from nextgpt_pl.utils.atomic import write_atomic
from nextgpt_pl.utils.processes import locked, terminable
from nextgpt_pl.verbs.command import helped, options_of

_LISTED = 20
# arguments of sources that change no shard
_FREE = ("on_error", "index_folder", "name")


@dataclass
class ConvertOptions:
    """Options of ``data convert``; the other arguments are keys of the experiment's YAML.

    Args:
        to: tar is shards of WebDataset, parquet the files of the package datasets.
        output: folder of the shards; by default outputs/convert/NAME, by the YAML's name.
        shard_size: most megabytes of a shard.
        rows: most rows of the source in a shard.
        check: decode all media, to find those that cannot be read.
        workers: number of processes; 0 converts in the main process.

    """

    to: Literal["tar", "parquet"] = "tar"
    output: Path | None = None
    shard_size: float = 1000.0
    rows: int = 5000
    check: bool = True
    workers: int = min(8, os.cpu_count() or 1)

    def __post_init__(self) -> None:
        at_least(0.1, **{"--shard_size": self.shard_size})
        at_least(1, **{"--rows": self.rows})
        at_least(0, **{"--workers": self.workers})


def convert(arguments: list[str]) -> int:
    """Run ``data convert -c FILE``; the same command continues an interrupted conversion.

    Returns:
        0; 130 if it was interrupted.

    Raises:
        UserError: the configuration is invalid, an item is unusable, or the output holds something else.

    """
    if helped(arguments, "data convert", ConvertOptions):
        return 0
    from nextgpt_pl.training.cli import build_data

    data, config = build_data(arguments, ConvertOptions)
    options = options_of(config, ConvertOptions)
    output = options.output or Path("outputs/convert") / config_files(arguments)[-1].stem
    output.mkdir(parents=True, exist_ok=True)
    try:
        with terminable(), locked(output / ".lock"):
            _convert_all(data, config.data, options, output)
    except KeyboardInterrupt:
        print("interrupted; the same command continues")
        return 130
    return 0


def _convert_all(data: Any, config: Any, options: ConvertOptions, output: Path) -> None:
    from nextgpt_pl.converting import Conversion, Settings
    from nextgpt_pl.converting.data_block import FILE, data_block, folder_names
    from nextgpt_pl.converting.writers import WRITERS

    sources: Sequence[Any] = data.sources
    folders = [output / name for name in folder_names(sources)]
    settings = Settings(options.to, options.rows, int(options.shard_size * 1e6), options.check)
    for source, entry, folder in zip(sources, config.init_args.sources, folders, strict=True):
        given = {k: v for k, v in entry.init_args.as_dict().items() if k not in _FREE}
        described = {"class": entry.class_path, **given, "data files": source.states()}
        print(f"{folder}:", flush=True)
        totals = Conversion(source, described, folder, settings).run(options.workers)
        _print(totals, folder)
    block = data_block(config.class_path, sources, folders, WRITERS[options.to].suffix)
    write_atomic(output / FILE, block)
    print(f"\n{output / FILE}, to train from the shards: fit -c EXPERIMENT.yaml -c {output / FILE}\n\n{block}", end="")


def _print(totals: Mapping[str, int], folder: Path) -> None:
    """Print the totals of a source, and the first reasons of what was skipped."""
    from nextgpt_pl.converting.convert import SKIPPED

    sizes = f"{totals['items']:,} items in {totals['samples']:,} samples, {totals['bytes'] / 1e6:,.1f} MB"
    print(
        f"  {totals['rows']:,} rows read = {totals['written']:,} written + {totals['skipped']:,} skipped"
        f" + {totals['left_out']:,} left out; {sizes}, shards: {totals['shards']:,}"
    )
    notes = {
        "skipped_items": "items were skipped",
        "missing": "media do not exist; their items have captions alone (need_media is false)",
        "attributes": "items have attributes, for scores of the pocket world; shards do not hold them",
    }
    for key, text in notes.items():
        if totals[key]:
            print(f"  {totals[key]:,} {text}")
    if totals["skipped"] or totals["skipped_items"]:
        with (folder / SKIPPED).open(encoding="utf-8") as lines:
            reasons = [line for line, _ in zip(lines, range(_LISTED + 1), strict=False)]
        print(*(f"    {reason.strip()}" for reason in reasons[:_LISTED]), sep="\n")
        if len(reasons) > _LISTED:
            print(f"    more in {folder / SKIPPED}")
