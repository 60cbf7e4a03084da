"""Benchmarks of image editing: GEdit-Bench and the basic set of ImgEdit-Bench."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from nextgpt_pl.errors import UserError
from nextgpt_pl.evaluation.benchmarks.base import Benchmark
from nextgpt_pl.evaluation.benchmarks.judged_score import Grades, Values
from nextgpt_pl.evaluation.judges.base import Inquiry, Scale
from nextgpt_pl.evaluation.records import Prediction
from nextgpt_pl.evaluation.tasks import Item
from nextgpt_pl.readers.values import text

_BOTH = "The first image was edited by an instruction; the second image is the result. The instruction is: {}"
_ADHERENCE = (
    Scale("success", 0, 10, "how well the result follows the instruction"),
    Scale("preservation", 0, 10, "how well the result keeps what the instruction does not change"),
)
_QUALITY = (
    Scale("naturalness", 0, 10, "how natural the image looks: lighting, distances, shadows"),
    Scale("freedom from artifacts", 0, 10, "10 without distortions, blur or seams, 0 if they are everywhere"),
)
_THREE = (
    Scale("instruction adherence", 1, 5, "how well the result follows the instruction"),
    Scale("editing quality", 1, 5, "how seamless and natural the edit is"),
    Scale("detail preservation", 1, 5, "how well everything else is kept, and how right its details are"),
)
_KINDS = ("semantics", "quality", "overall")


class _Edits(Benchmark):
    """Base of benchmarks with one edited image per reply."""

    def edit(self, key: str, instruction: str, image: Any, file: Path, about: Mapping[str, Any]) -> Item:
        """A request for an edit; the source image is the item's reference medium."""
        source = self.image(image, file)
        messages = self.ask(instruction, {"type": "image", "image": source})
        return Item(key, messages, self.modalities, (instruction,), source, about=about)


class GEditBench(_Edits):
    """GEdit-Bench (Liu et al., 2025, arXiv 2504.17761): Parquet files of the hub's data set ``stepfun-ai/GEdit-Bench``.

    Columns: ``key``, ``task_type``, ``instruction``, ``instruction_language`` and ``input_image``. As in VIEScore
    (arXiv 2312.14867), semantics is the lower one of two numbers of 0 to 10 about the instruction, quality the lower
    one of two about the result alone, and the overall score of an edit is the square root of their product. The scores
    of a language are means over the task types, each of which is a mean over its edits; lmms-eval takes the mean over
    all edits of a language instead. Its subset ``Intersection_exist`` has no scores of its own.
    """

    published_name = "GEdit-Bench"
    published_files = ("data/train-*.parquet",)

    def item(self, row: Mapping[str, Any], number: int, file: Path) -> Item:
        """A request for an edit."""
        about = {"group": f"{text(row, 'instruction_language')}, {text(row, 'task_type')}"}
        return self.edit(text(row, "key"), text(row, "instruction"), row.get("input_image"), file, about)

    def inquiries(self, prediction: Prediction, images: Sequence[Path], source: Path | None) -> list[Inquiry]:
        """Two numbers on both images, and two on the result."""
        instruction, result = prediction.references[0], tuple(images[:1])
        both = (source, *result) if source is not None else result
        alone = "Grade the image for itself, whatever it should show."
        return [
            Inquiry(_BOTH.format(instruction), _ADHERENCE, both, instruction),
            Inquiry(alone, _QUALITY, result, instruction),
        ]

    def grades(self, about: Mapping[str, Any], values: Sequence[Values]) -> Grades:
        """Semantics, quality and overall score by language and task type."""
        semantics, quality = (min(value.values()) for value in values)
        found = semantics, quality, math.sqrt(semantics * quality)
        return [(f"{about['group']}, {kind}", value) for kind, value in zip(_KINDS, found, strict=True)]

    def overall(self, series: Sequence[str]) -> dict[str, dict[str, float]]:
        """Per language and kind of score, the mean over the task types."""
        whole: dict[str, list[str]] = {}
        for name in series:
            language, _, kind = name.split(", ")
            whole.setdefault(f"{language}, {kind}", []).append(name)
        return {name: dict.fromkeys(parts, 1 / len(parts)) for name, parts in whole.items()}


class ImgEdit(_Edits):
    """ImgEdit-Bench's basic set (Ye et al., 2025, arXiv 2505.20275): ``basic_edit.json`` and the original images.

    The file has an object of ``id`` (path of the image, below ``root`` or its folder ``original_images``), ``prompt``
    and ``edit_type`` per key. The score of an edit is the mean of three numbers of 1 to 5, that of a type is the mean
    over its edits (``step1_get_avgscore.py`` and ``step2_typescore.py`` of github.com/PKU-YuanGroup/ImgEdit, which
    round both to two digits and leave edits without numbers out), and the overall score is the mean over all edits.
    """

    published_name = "ImgEdit"
    published_files = ("basic_edit.json",)
    image_folder = "original_images"

    def rows(self) -> Iterator[tuple[Path, int, Any]]:
        """One row per key."""
        for file, number, content in super().rows():
            if isinstance(content, UserError) or not isinstance(content, Mapping):
                yield file, number, content
                continue
            for position, (key, row) in enumerate(content.items()):
                yield file, position, {**row, "key": key} if isinstance(row, Mapping) else row

    def item(self, row: Mapping[str, Any], number: int, file: Path) -> Item:
        """A request for an edit."""
        return self.edit(row["key"], text(row, "prompt"), text(row, "id"), file, {"type": text(row, "edit_type")})

    def inquiries(self, prediction: Prediction, images: Sequence[Path], source: Path | None) -> list[Inquiry]:
        """Three numbers on both images."""
        instruction, result = prediction.references[0], tuple(images[:1])
        both = (source, *result) if source is not None else result
        return [Inquiry(_BOTH.format(instruction), _THREE, both, instruction)]

    def grades(self, about: Mapping[str, Any], values: Sequence[Values]) -> Grades:
        """The mean of the three numbers, for all edits and by type."""
        mean = sum(values[0].values()) / len(_THREE)
        return [("overall", mean), (about["type"], mean)]
