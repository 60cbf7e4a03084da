"""Base of benchmarks whose replies are judged."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from nextgpt_pl.errors import UserError, at_least
from nextgpt_pl.evaluation.benchmarks.judged_score import Judged, JudgedScore
from nextgpt_pl.evaluation.judges.base import Judge
from nextgpt_pl.evaluation.scores import Score
from nextgpt_pl.evaluation.tasks import Item, Messages, Remark, Task
from nextgpt_pl.modality import MODALITIES, Modality
from nextgpt_pl.readers.files import expanded
from nextgpt_pl.readers.formats import rows_of
from nextgpt_pl.readers.place import Place
from nextgpt_pl.samples import Media

_PROMPT = "{prompt}"


class Benchmark(Task, Judged):
    """A benchmark in its published files. Each judge gives scores of its own, which carry the judge's identity.

    A reply without the part that is asked about gets the lowest grades, and so does an answer of the judge that cannot
    be parsed. Both are counted among the scores.

    Args:
        root: folder of the files.
        judges: judges of the replies.
        name: see :class:`Task`.
        files: files of the items, below ``root``, with wildcards; by default the published names.
        prompt: the question, in which ``{prompt}`` is replaced by the item's prompt.
        samples: number of replies per item, which differ in their seeds.
        scores: further scores, such as :class:`~nextgpt_pl.evaluation.Similarity`.
        count: maximum number of replies; see :class:`Task`.
        max_new_tokens: see :class:`Task`.
        paper: see :class:`Task`; names of scores contain the judge's identity.

    Attributes:
        published_name: default of ``name``.
        published_files: default of ``files``.
        modalities: media that the replies must contain; ``None``: the model decides.
        image_folder: folder of images that rows name, below ``root``.

    Raises:
        UserError: there are no judges and no scores, or an argument is invalid.

    """

    published_name: str
    published_files: tuple[str, ...]
    modalities: tuple[str, ...] | None = ("image",)
    image_folder = "."

    def __init__(
        self,
        root: Path,
        judges: Sequence[Judge] = (),
        name: str | None = None,
        files: Sequence[str] | None = None,
        prompt: str = _PROMPT,
        samples: int = 1,
        scores: Sequence[Score] = (),
        count: int | None = None,
        max_new_tokens: int = 120,
        paper: Mapping[str, float] | None = None,
    ) -> None:
        judged = [JudgedScore(self, judge) for judge in judges]
        super().__init__(name or self.published_name, [*judged, *scores], count, max_new_tokens, paper)
        at_least(1, samples=samples)
        if not self.scores:
            raise UserError(f"task {self.name!r}: judges or scores are expected")
        if _PROMPT not in prompt:
            raise UserError(f"task {self.name!r}: prompt={prompt!r}: it must contain {_PROMPT}")
        self.data_root = self.root = root.resolve()
        self.files, self.prompt, self.samples = tuple(files or self.published_files), prompt, samples

    def missing(self) -> list[str]:
        """The files of the items, if there are none."""
        try:
            return [] if self._paths() else [f"{self.root}: no {' or '.join(self.files)} there"]
        except UserError as error:
            return [str(error)]

    def items(self) -> Iterator[Item | Remark]:
        """The items of all files in order, each ``samples`` times."""
        for item in self._items():
            if isinstance(item, Remark) or item.fault is not None or self.samples == 1:
                yield item
                continue
            yield from (replace(item, key=f"{item.key}/{sample}") for sample in range(self.samples))

    def _items(self) -> Iterator[Item | Remark]:
        for file, number, row in self.rows():
            where = f"{file.name}, row {number}"
            try:
                if isinstance(row, UserError):
                    raise row
                if not isinstance(row, Mapping):
                    raise UserError(f"an object is expected, got {row!r:.80}")
                yield self.item(row, number, file)
            except UserError as error:
                yield Item.broken(where, error)

    def _paths(self) -> list[Path]:
        return [path for path in expanded(self.root, self.files) if path.is_file()]

    def rows(self) -> Iterator[tuple[Path, int, Any]]:
        """The file, the number in it and the content of each row, or the error in its place."""
        for file in self._paths():
            yield from ((file, number, row) for number, row in enumerate(rows_of(file)))

    def ask(self, prompt: str, *parts: Mapping[str, Any]) -> Messages:
        """One message of the user: media, then the prompt."""
        text = self.prompt.replace(_PROMPT, prompt)
        return [{"role": "user", "content": [*parts, {"type": "text", "text": text}]}]

    def image(self, value: Any, file: Path) -> Media:
        """The image that a value of a row of ``file`` means: a path, or bytes in a Parquet file.

        Raises:
            UserError: it means none, or its path leaves the folders.

        """
        folders = dict.fromkeys(MODALITIES, self.image_folder)
        return Place(file, self.root, folders, need_media=False).media(Modality.IMAGE, value)

    @abstractmethod
    def item(self, row: Mapping[str, Any], number: int, file: Path) -> Item:
        """The item of a row; what the score needs of the row is in ``about``.

        Raises:
            UserError: a key is missing, or a value is invalid.

        """
