"""Where captioned pairs come from. A reader checks every row before training and names each broken one."""

from __future__ import annotations

import json
import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from nextgpt_pl.datamodules.rows import RowReport, array_shape, inside, take
from nextgpt_pl.errors import UserError, nearest
from nextgpt_pl.modality import MODALITIES, Modality, modality_of_file
from nextgpt_pl.pocket import world
from nextgpt_pl.samples import CaptionedPair, Media

log = logging.getLogger(__name__)

Split = Literal["train", "val"]
OnError = Literal["raise", "skip"]


class Reader(ABC):
    """A source of captioned pairs; ``report`` counts what the last :meth:`read` used and skipped."""

    report: RowReport

    @abstractmethod
    def read(self, split: Split, embedding_shapes: dict[Modality, tuple[int, ...]]) -> Sequence[CaptionedPair]:
        """The pairs of a split, media unread.

        Args:
            split: ``train`` or ``val``.
            embedding_shapes: what precomputed caption embeddings must look like, per modality.

        """


class PocketWorld(Reader):
    """Items of the pocket world; validation has held-out combinations of attributes.

    Args:
        train_size: items per modality to train on.
        val_size: items per modality to validate on.
        modalities: which media.
        seed: another seed is another set of items.

    """

    def __init__(
        self, train_size: int = 4096, val_size: int = 64, modalities: list[str] | None = None, seed: int = 0
    ) -> None:
        self.sizes: dict[str, int] = {"train": train_size, "val": val_size}
        try:
            self.modalities = [Modality(m) for m in modalities] if modalities is not None else list(Modality)
        except ValueError as error:
            raise UserError(f"PocketWorld.modalities={modalities}: known are {[m.value for m in Modality]}") from error
        self.seed = seed

    def read(self, split: Split, embedding_shapes: dict[Modality, tuple[int, ...]]) -> Sequence[CaptionedPair]:
        """All items of the split, one modality after the other."""
        side: world.Split = "train" if split == "train" else "heldout"
        size = self.sizes[split]
        self.report = RowReport("pocket world", size * len(self.modalities))
        return [world.captioned_pair(side, m, i, self.seed) for m in self.modalities for i in range(size)]


class _Files(Reader):
    """Readers of files: broken rows are collected, then all named at once or skipped and counted."""

    def __init__(self, root: Path, on_error: OnError, val_fraction: float) -> None:
        if not root.is_dir():
            raise UserError(
                f"root={str(root)!r}: no such folder; give it in the YAML or by --data.sources.init_args.root=FOLDER"
                " (the YAML may read it from an environment variable)"
            )
        if not 0 <= val_fraction < 1:
            raise UserError(f"val_fraction={val_fraction}: it is a share of the rows, from 0 to below 1")
        self.root, self.on_error, self.val_fraction = root.resolve(), on_error, val_fraction

    def read(self, split: Split, embedding_shapes: dict[Modality, tuple[int, ...]]) -> Sequence[CaptionedPair]:
        """Check and read all rows.

        Raises:
            UserError: broken rows and ``on_error`` is ``raise``; the message lists them.

        """
        self.report = RowReport(str(self.root))
        pairs: list[CaptionedPair] = []
        for file in self.row_files():
            name = file.relative_to(self.root) if file.is_relative_to(self.root) else file
            for index, row in enumerate(self.rows(file)):
                where = f"{name}, row {index}"
                if isinstance(row, UserError):
                    self.report.broken.append(f"{name}: {row}")
                    continue
                try:
                    pairs += self.pairs(file, row, where, embedding_shapes)
                    self.report.used += 1
                except UserError as error:
                    self.report.broken.append(f"{where}: {error}")
        if self.report.broken and (self.on_error == "raise" or not pairs):
            raise UserError(self.report.message())
        log.info(self.report.message())
        held_out = int(len(pairs) * self.val_fraction)
        if not held_out:
            return pairs
        return pairs[-held_out:] if split == "val" else pairs[:-held_out]

    @abstractmethod
    def row_files(self) -> list[Path]:
        """The files with rows."""

    @abstractmethod
    def rows(self, file: Path) -> Iterator[Any]:
        """The rows of a file; an unreadable file or line comes as the :class:`UserError` that says so."""

    @abstractmethod
    def pairs(
        self, file: Path, row: Any, where: str, embedding_shapes: dict[Modality, tuple[int, ...]]
    ) -> list[CaptionedPair]:
        """The pairs of one row.

        Raises:
            UserError: the row is broken; the message says how.

        """


class OfficialJSON(_Files):
    """The official NExT-GPT data: ``*_generation.json``, ``*_comprehension.json``, and ``{caption, X_name}`` lists.

    Args:
        root: folder of everything.
        files: the JSON files, relative to it.
        media: folders of the media per modality, relative to the JSON's folder (``images``, ``videos``, ``audios``).
        embeddings: folder of the caption embeddings, relative to root. In plain lists, which do not name them, the
            file ``<media name>.npy`` is used if ``plain_embeddings`` is set.
        plain_embeddings: see above.
        need_media: check that the media files exist.
        on_error: stop at broken rows, naming them all, or skip and count them.
        val_fraction: share of the rows, from the end, kept for validation; 0: validate on the training rows.

    """

    def __init__(
        self,
        root: Path,
        files: list[str],
        media: dict[str, str] | None = None,
        embeddings: str = "embed",
        plain_embeddings: bool = False,
        need_media: bool = True,
        on_error: OnError = "raise",
        val_fraction: float = 0.0,
    ) -> None:
        super().__init__(root, on_error, val_fraction)
        self.files, self.embeddings, self.plain_embeddings = files, embeddings, plain_embeddings
        self.media = {m: (media or {}).get(m.value, f"{m}s") for m in MODALITIES}
        self.need_media = need_media

    def row_files(self) -> list[Path]:
        """As configured."""
        return [inside(self.root, name) for name in self.files]

    def rows(self, file: Path) -> Iterator[Any]:
        """Items of the JSON list."""
        if not file.is_file():
            known = [str(p.relative_to(self.root)) for p in self.root.rglob("*.json")]
            yield UserError(f"no such file{nearest(str(file.relative_to(self.root)), known)}")
            return
        try:
            rows = json.loads(file.read_text(encoding="utf-8"))
        except (UnicodeDecodeError, json.JSONDecodeError) as error:
            yield UserError(f"unreadable JSON ({error})")
            return
        if not isinstance(rows, list):
            yield UserError(f"a JSON list of rows is expected, this is {type(rows).__name__}")
            return
        yield from rows

    def pairs(
        self, file: Path, row: Any, where: str, embedding_shapes: dict[Modality, tuple[int, ...]]
    ) -> list[CaptionedPair]:
        """One pair per medium of the row."""
        if not isinstance(row, dict):
            raise UserError(f"an object is expected, this is {row!r:.80}")
        instruction, answer = _exchange(row)
        found = []
        for modality in MODALITIES:
            for kind in ("output", "input", "name"):
                key = f"{modality}_name" if kind == "name" else f"{kind}_{modality}"
                names = take(row, key, optional=True)
                if not names:
                    continue
                captions = _captions(row, modality, kind, answer)
                if len(captions) != len(names):
                    raise UserError(f"{len(names)} files in {key}, but {len(captions)} captions")
                vectors = take(row, f"{modality}_caption_embeddings", optional=True) if kind == "output" else []
                if kind == "name" and self.plain_embeddings:
                    vectors = [f"{name}.npy" for name in names]
                for index, (name, caption) in enumerate(zip(names, captions, strict=True)):
                    found.append(
                        CaptionedPair(
                            key=f"{where} ({name})",
                            modality=modality,
                            caption=caption,
                            media=self._media(file, modality, name),
                            caption_embedding=self._embedding(vectors, index, embedding_shapes.get(modality)),
                            instruction=instruction,
                            response=answer if kind == "output" and len(names) == 1 else None,
                        )
                    )
        if not found:
            raise UserError(f"no medium: keys are {sorted(row)}, one of output_X, input_X, X_name is expected")
        return found

    def _media(self, file: Path, modality: Modality, name: str) -> Media:
        path = inside(file.parent / self.media[modality], name)
        if self.need_media and not path.is_file():
            raise UserError(f"missing {modality} file {path}")
        return Media(modality, path)

    def _embedding(self, names: list[str], index: int, shape: tuple[int, ...] | None) -> Path | None:
        if not names:
            return None
        if index >= len(names):
            raise UserError(f"caption embedding {index} is missing, there are {len(names)}")
        path = inside(self.root / self.embeddings, names[index])
        found = array_shape(path)
        if shape is not None and found != shape:
            raise UserError(
                f"caption embedding {path} is {_times(found)}, the decoder's text encoder gives {_times(shape)}"
            )
        return path


class CaptionFolder(_Files):
    """Any folder of media: captions in ``name.txt`` beside ``name.jpg``, or in a JSONL of file and caption.

    Args:
        root: the folder.
        manifest: a JSONL file in it with ``file`` (or ``file_name``) and ``caption`` (or ``text``) per line; without
            one, side files are used.
        on_error: stop at broken rows, naming them all, or skip and count them.
        val_fraction: share of the rows, from the end, kept for validation; 0: validate on the training rows.

    """

    def __init__(
        self, root: Path, manifest: str | None = None, on_error: OnError = "raise", val_fraction: float = 0.1
    ) -> None:
        super().__init__(root, on_error, val_fraction)
        self.manifest = manifest

    def row_files(self) -> list[Path]:
        """The manifest, or the folder itself."""
        return [inside(self.root, self.manifest) if self.manifest else self.root]

    def rows(self, file: Path) -> Iterator[Any]:
        """Lines of the manifest, or media files with their side files."""
        if not self.manifest:
            endings = tuple(suffix for spec in MODALITIES.values() for suffix in spec.suffixes)
            for medium in sorted(p for p in file.rglob("*") if p.name.lower().endswith(endings)):
                side = medium.with_suffix(".txt")
                caption = side.read_text(encoding="utf-8").strip() if side.is_file() else None
                name = str(medium.relative_to(self.root))
                yield (
                    {"file": name, "caption": caption}
                    if caption
                    else UserError(f"{name} has no caption in {side.name}")
                )
            return
        if not file.is_file():
            yield UserError("no such file")
            return
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines()):
            if not line.strip():
                continue
            try:
                yield json.loads(line)
            except json.JSONDecodeError as error:
                yield UserError(f"row {number}: unreadable JSON ({error})")

    def pairs(
        self, file: Path, row: Any, where: str, embedding_shapes: dict[Modality, tuple[int, ...]]
    ) -> list[CaptionedPair]:
        """One pair."""
        if not isinstance(row, dict):
            raise UserError(f"an object is expected, this is {row!r:.80}")
        name = (take(row, "file", optional=True) or take(row, "file_name"))[0]
        caption = (take(row, "caption", optional=True) or take(row, "text"))[0]
        path = inside(self.root, name)
        if not path.is_file():
            raise UserError(f"missing file {path}")
        try:
            modality = modality_of_file(name)
        except ValueError as error:
            raise UserError(str(error)) from error
        return [CaptionedPair(f"{where} ({name})", modality, caption, Media(modality, path))]


def _exchange(row: dict[str, Any]) -> tuple[str | None, str | None]:
    """First question and first answer of a row's conversation."""
    turns = row.get("conversations")
    if turns is None:
        return None, None
    try:
        human = next(t["value"] for t in turns if t["from"] == "human")
        answer = next(t["value"] for t in turns if t["from"] == "gpt")
    except (StopIteration, KeyError, TypeError) as error:
        raise UserError("conversations lacks a turn from 'human' or one from 'gpt'") from error
    return str(human), str(answer)


def _captions(row: dict[str, Any], modality: Modality, kind: str, answer: str | None) -> list[str]:
    """Captions of a row's media: beside outputs, the answer to a question about an input, or a plain caption."""
    if kind == "output":
        return take(row, f"{modality}_captions")
    if kind == "name":
        return take(row, "caption")
    if answer is None:
        raise UserError(f"input_{modality} without conversations: there is no caption to learn")
    return [answer]


def _times(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
