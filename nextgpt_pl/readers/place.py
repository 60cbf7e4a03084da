"""Where a row's files are: its folders, and the references within its own data file."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from nextgpt_pl.errors import MissingFileError, UserError
from nextgpt_pl.modality import MODALITIES, Modality, modality_of_file
from nextgpt_pl.readers.files import located
from nextgpt_pl.readers.listings import Listings
from nextgpt_pl.readers.names import NamePattern
from nextgpt_pl.readers.stored import MAX_BYTES, Inline, is_reference, stored
from nextgpt_pl.samples import Media, StoredMedia

_DATA_URL = re.compile(r"data:(?P<type>[\w.+-]+/[\w.+-]+)?(;[\w.+-]+=[\w.+-]+)*;base64,")


@dataclass(frozen=True)
class Place:
    """Resolves the files that the rows of one data file name.

    Args:
        file: the data file.
        root: folder of the data set.
        folders: folder of each modality's media, relative to the data file's folder or to ``root``.
        media_roots: further folders that media may lie in, also as absolute paths or by links.
        embeddings: folder of the caption embeddings; ``None``: embeddings are computed, and their files are ignored.
        plain_embeddings: whether the embedding ``<media name>.npy`` is used where a row names none.
        need_media: whether media files must exist.
        ignore: keys of a row's objects, such as its turns, that hold nothing to learn; ``None``: they are of no YAML.
        media_name: name of a row's medium, from its columns; ``None``: as the data set is published.
        only_checks: given where all rows of a data set are checked and nothing is read: tells which files exist. Media
            and embeddings have the path of the data file instead of their own, since making a path takes longer than
            all checks of it.
        max_inline: maximum number of bytes of a medium within a row.

    """

    file: Path
    root: Path
    folders: Mapping[Modality, str] = field(default_factory=lambda: {m: f"{m}s" for m in MODALITIES})
    media_roots: tuple[Path, ...] = ()
    embeddings: Path | None = None
    plain_embeddings: bool = False
    need_media: bool = True
    ignore: tuple[str, ...] | None = ()
    media_name: NamePattern | None = None
    only_checks: Listings | None = field(default=None, repr=False)
    max_inline: int = MAX_BYTES

    def media(self, modality: Modality | None, value: Any, *, needed: bool | None = None) -> Media:
        """The medium that a row's value means: a path, a ``data:`` URL, bytes in the data file, or a struct of these.

        Args:
            modality: of the medium; ``None``: told by the file's ending.
            value: the value.
            needed: whether the file must exist; by default as configured.

        Raises:
            MissingFileError: the file does not exist.
            UserError: the value names no medium, or its path leaves the folders.

        """
        if not isinstance(value, str) and isinstance(value, Mapping):
            return self._of_struct(modality, value, needed)
        if not isinstance(value, str) or not value:
            raise UserError(f"{value!r:.80} is no {modality or 'medium'}: a path is expected")
        if value.startswith(("data:", "http:", "https:", "file:")):
            return self._of_url(modality, value, needed)
        kind = modality or modality_of_file(value)
        return Media(kind, self.path(kind, value, needed=needed))

    def _of_url(self, modality: Modality | None, value: str, needed: bool | None) -> Media:
        match = _DATA_URL.match(value)
        if match is not None:
            kind = modality or _of_mime_type(match["type"] or "")
            return self._inline(kind, value[match.end() :])
        if not value.startswith("file://"):
            raise UserError(f"{value!r:.80}: media are not fetched from the net; download the data set first")
        return self.media(modality, value.removeprefix("file://"), needed=needed)

    def _inline(self, modality: Modality, text: str) -> Media:
        """A medium that a row has as base64."""
        size = len(text) * 3 // 4
        if size > self.max_inline:
            raise UserError(f"{modality} within the row: {size:,} bytes, at most {self.max_inline:,} are read")
        return Media(modality, Inline(text, f"{modality} within the row"))

    def optional_media(self, modality: Modality, value: Any) -> Media | None:
        """The medium that a value means, or ``None`` if its file does not exist: only the denoising loss needs it."""
        try:
            return self.media(modality, value, needed=True)
        except MissingFileError:
            return None

    def _of_struct(self, modality: Modality | None, value: Mapping[str, Any], needed: bool | None) -> Media:
        if is_reference(value):
            kind = modality or Modality.IMAGE
            return Media(kind, stored(self.file, dict(value), f"{kind} of a row"))
        path, content = value.get("path") or value.get("url"), value.get("bytes")
        if isinstance(path, str) and path:
            if content is None:
                return self.media(modality, path, needed=needed)
            with suppress(ValueError):  # the file does not exist, and the bytes are the medium
                return self.media(modality, path, needed=True)
        if isinstance(content, Mapping) and is_reference(content):
            kind = modality or modality_of_file(str(path))
            return Media(kind, stored(self.file, dict(content), str(path or f"{kind} of a row")))
        base64_text = value.get("base64") or value.get("data")
        if isinstance(base64_text, str) and modality is not None:
            return self._inline(modality, base64_text)
        raise UserError(f"{dict(value)!r:.80} is no {modality or 'medium'}: a path, or bytes and path, is expected")

    def named(self, modality: Modality, row: Mapping[str, Any], names: Sequence[str]) -> tuple[str, Media]:
        """Name and medium of a row whose data set names its media by a rule.

        Args:
            modality: of the medium.
            row: the row, for ``media_name``.
            names: names under which the medium is known to be stored; the first that exists is used.

        Raises:
            MissingFileError: there is none of them.
            UserError: a path leaves the folders, or ``media_name`` does not fit the row.

        """
        if self.media_name is not None:
            names = [self.media_name.fill(row)]
        if len(names) > 1:
            for name in names:
                try:
                    return name, self.media(modality, name, needed=True)
                except MissingFileError:
                    continue
        try:
            return names[0], self.media(modality, names[0])
        except MissingFileError as error:
            others = f", nor is there {' or '.join(names[1:])}" if names[1:] else ""
            raise MissingFileError(f"{error}{others}", error.path) from error

    def path(self, modality: Modality, name: str, *, needed: bool | None = None) -> Path:
        """The file of a medium: below its modality's folder, the data file's folder, the root or a media root.

        Raises:
            MissingFileError: the file is in none of them.
            UserError: the path leaves the folders.

        """
        needed = self.need_media if needed is None else needed
        first, outside = None, None
        for base in self._bases[modality]:
            try:
                path, exists = located(base, name, self._roots, self.only_checks)
            except UserError as error:
                outside = outside or error
                continue
            if exists:
                return self._path(path)
            first = first or path
        if outside is not None and (first is None or _is_there(self._bases[modality], name)):
            raise outside
        assert first is not None
        if not needed:
            return self._path(first)
        raise MissingFileError(f"missing {modality} file {first}", first)

    @cached_property
    def _embeddings(self) -> str:
        return str(self.embeddings)

    @cached_property
    def _roots(self) -> tuple[str, ...]:
        return tuple(map(str, self.media_roots))

    @cached_property
    def _bases(self) -> dict[Modality, list[str]]:
        """Per modality, the folders in which media are looked for; those that do not exist come last."""
        folder, further = self.file.parent, (self.root, *self.media_roots)
        bases = {m: dict.fromkeys((folder / n, self.root / n, folder, *further)) for m, n in self.folders.items()}
        return {m: [str(f) for f in sorted(folders, key=lambda f: not f.is_dir())] for m, folders in bases.items()}

    def embedding(self, names: Sequence[Any], index: int = 0) -> Path | StoredMedia | None:
        """A caption embedding; ``None`` if the row names none. Its shape is checked when it is read.

        Args:
            names: of each embedding its file, or its bytes in the data file, maybe in a struct with ``bytes``.
            index: which of them.

        Raises:
            MissingFileError: the file does not exist.
            UserError: the row names fewer embeddings than captions, or a value is no name.

        """
        if not names or self.embeddings is None:
            return None
        if index >= len(names):
            raise UserError(f"caption embedding {index} is missing, there are {len(names)}")
        value = names[index]
        if isinstance(value, Mapping):
            value = value.get("bytes", value)
            if is_reference(value):
                return stored(self.file, dict(value), "caption embedding of a row")
        if not isinstance(value, str):
            raise UserError(f"caption embedding {value!r:.80}: a file name, or bytes in the data file, is expected")
        path, exists = located(self._embeddings, value, (), self.only_checks)
        if not exists:
            message = f"missing caption embedding {path}; embeddings: compute makes it from the caption"
            raise MissingFileError(message, path)
        return self._path(path)

    def _path(self, path: str) -> Path:
        return Path(path) if self.only_checks is None else self.file


def _is_there(folders: Sequence[str], name: str) -> bool:
    """Whether one of the folders has the name, maybe as a link that leaves it."""
    return any(os.path.lexists(f"{folder}/{name}") for folder in folders)


def _of_mime_type(text: str) -> Modality:
    kind = text.partition("/")[0]
    if kind not in [m.value for m in MODALITIES]:
        raise UserError(f"data URL of type {text!r}: image, video or audio is expected")
    return Modality(kind)
