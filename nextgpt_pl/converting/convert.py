"""Conversion of one source: shards are written in parallel, then numbered; an interrupted conversion continues."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from tqdm import tqdm

from nextgpt_pl.converting.chunks import ChunkWriter, ShardRecord
from nextgpt_pl.converting.plan import Chunk, Counts, chunks_of, kinds_of, parts_of
from nextgpt_pl.converting.workers import run_all
from nextgpt_pl.converting.writers import WRITERS, check_installed, columns_of
from nextgpt_pl.datamodules.sources import FileSource, Source
from nextgpt_pl.errors import UserError
from nextgpt_pl.utils.atomic import write_atomic

RECORD, SKIPPED = "conversion.json", "skipped.jsonl"
_UNNUMBERED, _SETTINGS = ".unnumbered", "settings.json"
_USABLE = "usable rows"  # key of the settings, with a digest of each part


@dataclass(frozen=True)
class Settings:
    """What determines the shards, beside the source.

    Attributes:
        to: ``tar`` or ``parquet``.
        rows: most rows of the source in a shard.
        shard_size: most bytes of a shard; a single larger row has a shard of its own.
        check: decode media to find unreadable ones.

    """

    to: str
    rows: int
    shard_size: int
    check: bool


class Conversion:
    """Converts a source.

    Args:
        source: the source.
        described: what it depends on: the class and arguments of the YAML, and what tells its files' content.
        folder: folder of its shards; a conversion there of other data or with other settings is refused.
        settings: what determines the shards.

    """

    def __init__(self, source: Source, described: Mapping[str, Any], folder: Path, settings: Settings) -> None:
        check_installed(settings.to)
        for read in source.row_files() if isinstance(source, FileSource) else ():
            if folder.resolve().is_relative_to(read):  # a folder whose files are the rows
                raise UserError(f"{folder} is within {read}, which the source reads: give another --output")
        self.source, self.folder, self.settings = source, folder, settings
        self.described = json.loads(json.dumps({"source": described, **asdict(settings)}, default=str))
        self.unnumbered = folder / _UNNUMBERED

    def run(self, workers: int) -> dict[str, Any]:
        """Convert, or go on with an interrupted conversion; a complete one is left as it is.

        Args:
            workers: number of processes; 0: this process alone.

        Returns:
            Numbers of rows, items and shards.

        Raises:
            UserError: the folder holds something else, or an item is unusable and ``on_error`` is ``raise``.

        """
        done = self._read(self.folder / RECORD)
        known = done["settings"] if done else self._read(self.unnumbered / _SETTINGS)
        self._refuse_others(known)
        if done:
            shutil.rmtree(self.unnumbered, ignore_errors=True)
            return dict(done["totals"])
        parts, counts = parts_of(self.source)
        if not parts:
            raise UserError(f"{self.source.name or type(self.source).__name__}: it has no items to convert")
        self.described[_USABLE] = [part.digest() for part in parts]
        self._refuse_others(known)
        chunks, settings = chunks_of(parts, self.settings.rows), self.settings
        writer = ChunkWriter(
            parts,
            self.unnumbered,
            WRITERS[settings.to],
            columns_of(kinds_of(parts)) if settings.to == "parquet" else [],
            settings.shard_size,
            settings.check,
            self.source.need_media,
            skips=self.source.on_error == "skip",
        )
        self._start()
        self._write(writer, chunks, workers, counts.used)
        return self._finish(writer, chunks, counts)

    def _refuse_others(self, known: Mapping[str, Any] | None) -> None:
        if known is None:
            if self.folder.is_dir() and any(self.folder.iterdir()):
                raise UserError(f"{self.folder}: it holds other files; give another --output, or remove it")
            return
        names = {**known, **self.described}
        if _USABLE not in self.described:  # the rows are not read yet
            names.pop(_USABLE, None)
        different = [name for name in names if known.get(name) != self.described.get(name)]
        if "source" in different:
            old, new = known["source"], self.described["source"]
            different.remove("source")
            different += [name for name in {**old, **new} if old.get(name) != new.get(name)]
        if different:
            raise UserError(
                f"{self.folder}: a conversion of other data or with other options ({', '.join(different)}); "
                "give another --output, or remove it"
            )

    @staticmethod
    def _read(file: Path) -> dict[str, Any] | None:
        try:
            return dict(json.loads(file.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise UserError(f"{file}: unreadable ({error}); remove the folder of the conversion") from error

    def _start(self) -> None:
        self.unnumbered.mkdir(parents=True, exist_ok=True)
        for file in self.unnumbered.glob(".*"):  # of killed workers
            file.unlink()
        write_atomic(self.unnumbered / _SETTINGS, json.dumps(self.described, ensure_ascii=False, indent=1))

    def _write(self, writer: ChunkWriter, chunks: Sequence[Chunk], workers: int, rows: int) -> None:
        done = {chunk: (records[-1].next if (records := writer.records(chunk)) else chunk.first) for chunk in chunks}
        written = sum(row - chunk.first for chunk, row in done.items())
        name = self.source.name or self.folder.name
        with tqdm(total=rows, initial=written, desc=f"converting {name}", unit=" rows", unit_scale=True) as bar:
            run_all(writer, [chunk for chunk in chunks if done[chunk] < chunk.end], workers, bar.update)

    def _finish(self, writer: ChunkWriter, chunks: Sequence[Chunk], counts: Counts) -> dict[str, Any]:
        """Number the shards, and write what the conversion did; repeated if the process was killed meanwhile."""
        shards: dict[str, list[Path]] = {}
        sums = Counter[str]()
        with (self.unnumbered / SKIPPED).open("w", encoding="utf-8") as skipped:
            for reason in chain(*counts.reasons):
                skipped.write(json.dumps(reason, ensure_ascii=False) + "\n")
            for chunk, file, record in _written(writer, chunks):
                skipped.writelines(json.dumps(reason, ensure_ascii=False) + "\n" for reason in record.faults)
                sums.update({k: v for k, v in asdict(record).items() if k not in ("next", "faults")})
                if record.samples:
                    shards.setdefault(writer.parts[chunk.part].folder, []).append(file)
        files = [self._numbered(folder, of_folder) for folder, of_folder in shards.items()]
        sums["skipped"] += counts.broken
        if (self.unnumbered / SKIPPED).stat().st_size:
            (self.unnumbered / SKIPPED).replace(self.folder / SKIPPED)
        totals = {"rows": counts.used + counts.broken + counts.left_out, **sums, "left_out": counts.left_out}
        totals |= {"shards": sum(map(len, files)), "bytes": sum(f.stat().st_size for f in chain(*files))}
        content = {"settings": self.described, "totals": totals}
        write_atomic(self.folder / RECORD, json.dumps(content, ensure_ascii=False, indent=1))
        shutil.rmtree(self.unnumbered)
        return totals

    def _numbered(self, folder: str, files: Sequence[Path]) -> list[Path]:
        """Rename the shards of a folder, if they are not; returns their names."""
        (self.folder / folder).mkdir(exist_ok=True)
        names = [self.folder / folder / self._name(folder, number, len(files)) for number in range(len(files))]
        for file, name in zip(files, names, strict=True):
            if file.exists():
                file.replace(name)
        return names

    def _name(self, folder: str, number: int, count: int) -> str:
        if self.settings.to == "tar":
            return f"{number:05}.tar"
        return f"{folder or 'train'}-{number:05}-of-{count:05}.parquet"


def _written(writer: ChunkWriter, chunks: Sequence[Chunk]) -> Iterator[tuple[Chunk, Path, ShardRecord]]:
    for chunk in chunks:
        for number, record in enumerate(writer.records(chunk)):
            yield chunk, writer.file(chunk, number), record
