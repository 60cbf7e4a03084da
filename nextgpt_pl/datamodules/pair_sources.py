"""Sources of captioned pairs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from nextgpt_pl.datamodules.rows import RowReport, inside, json_lines, take
from nextgpt_pl.datamodules.sources import FileSource, JSONSource, OnError, Shapes, Source, Split
from nextgpt_pl.errors import UserError, at_least
from nextgpt_pl.modality import GENERATED, MODALITIES, Modality, has_media_ending, modality_of_file
from nextgpt_pl.pocket.world import items
from nextgpt_pl.pocket.world import scenes as world
from nextgpt_pl.samples import CaptionedPair


class PocketWorld(Source):
    """Items of the pocket world; validation has held-out combinations of attributes.

    Args:
        train_size: training items per modality.
        val_size: validation items per modality.
        modalities: modalities of the items.
        seed: another seed gives another set of items.

    """

    def __init__(
        self, train_size: int = 4096, val_size: int = 64, modalities: list[str] | None = None, seed: int = 0
    ) -> None:
        at_least(0, PocketWorld__train_size=train_size, PocketWorld__val_size=val_size, PocketWorld__seed=seed)
        self.sizes: dict[str, int] = {"train": train_size, "val": val_size}
        try:
            self.modalities = [GENERATED[GENERATED.index(m)] for m in (GENERATED if modalities is None else modalities)]
        except ValueError as error:
            raise UserError(f"PocketWorld.modalities={modalities}: known are {[m.value for m in GENERATED]}") from error
        self.seed = seed

    def read(self, split: Split, embedding_shapes: Shapes) -> Sequence[CaptionedPair]:
        """All items of the split, one modality after the other."""
        side: world.Split = "train" if split == "train" else "heldout"
        size = self.sizes[split]
        self.report = RowReport("pocket world", size * len(self.modalities))
        return [items.captioned_pair(side, m, i, self.seed) for m in self.modalities for i in range(size)]


class OfficialJSON(JSONSource):
    """The official NExT-GPT data: ``*_generation.json``, ``*_comprehension.json``, and ``{caption, X_name}`` lists.

    Args:
        root: folder of all files.
        files: the JSON files, relative to it.
        media: folders of the media per modality, relative to the JSON's folder (``images``, ``videos``, ``audios``).
        embeddings: folder of the caption embeddings, relative to root. In plain lists, which do not name them, the
            file ``<media name>.npy`` is used if ``plain_embeddings`` is set.
        plain_embeddings: see ``embeddings``.
        need_media: check that the media files exist.
        on_error: ``raise`` an error that lists all broken rows, or ``skip`` and count them.
        val_fraction: fraction of each file's rows in the held-out split; see :class:`JSONSource`; 0: validate
            on the training rows.

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
        super().__init__(root, files, media, embeddings, need_media, on_error, val_fraction)
        self.plain_embeddings = plain_embeddings

    def items(self, file: Path, row: Any, where: str, embedding_shapes: Shapes) -> list[CaptionedPair]:
        """One pair per medium of the row."""
        if not isinstance(row, dict):
            raise UserError(f"an object is expected, got {row!r:.80}")
        instruction, answer = _exchange(row)
        pairs = []
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
                folder, shape = file.parent / self.media[modality], embedding_shapes.get(modality)
                for index, (name, caption) in enumerate(zip(names, captions, strict=True)):
                    pairs.append(
                        CaptionedPair(
                            key=f"{where} ({name})",
                            modality=modality,
                            caption=caption,
                            media=self.media_file(folder, modality, name, needed=self.need_media),
                            caption_embedding=self.embedding_file(self.embeddings, vectors, index, shape),
                            instruction=instruction if kind == "output" else None,
                            question=instruction if kind == "input" else None,
                            response=answer if kind == "output" and len(names) == 1 else None,
                        )
                    )
        if not pairs:
            raise UserError(f"no medium: keys are {sorted(row)}, one of output_X, input_X, X_name is expected")
        return pairs


class CaptionFolder(FileSource):
    """Any folder of media: captions in ``name.txt`` beside ``name.jpg``, or in a JSONL of file and caption.

    Args:
        root: the folder.
        manifest: a JSONL file in it with ``file`` (or ``file_name``) and ``caption`` (or ``text``) per line; without
            one, side files are used.
        on_error: ``raise`` an error that lists all broken rows, or ``skip`` and count them.
        val_fraction: fraction of each file's rows in the held-out split; see :class:`JSONSource`; 0: validate
            on the training rows.

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
            for medium in sorted(p for p in file.rglob("*") if has_media_ending(str(p.relative_to(file)))):
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
        for number, row in json_lines(file):
            broken = isinstance(row, json.JSONDecodeError)
            yield UserError(f"row {number}: unreadable JSON ({row})") if broken else row

    def items(self, file: Path, row: Any, where: str, embedding_shapes: Shapes) -> list[CaptionedPair]:
        """One pair."""
        if not isinstance(row, dict):
            raise UserError(f"an object is expected, got {row!r:.80}")
        name = (take(row, "file", optional=True) or take(row, "file_name"))[0]
        caption = (take(row, "caption", optional=True) or take(row, "text"))[0]
        try:
            modality = modality_of_file(name)
        except ValueError as error:
            raise UserError(str(error)) from error
        return [CaptionedPair(f"{where} ({name})", modality, caption, self.media_file(self.root, modality, name))]


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
