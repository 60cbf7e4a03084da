"""Captioned data sets under their own names: :class:`DataFiles` with the published archives' files as defaults."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

from nextgpt_pl.datamodules.data_files import DataFiles
from nextgpt_pl.errors import UserError
from nextgpt_pl.modality import MODALITIES, Modality
from nextgpt_pl.readers.files import inside
from nextgpt_pl.readers.model import LeftOut
from nextgpt_pl.readers.splits import SetSplit


class CocoCaptions(DataFiles):
    """COCO: ``annotations/captions_val2014.json`` and ``val2014/*.jpg``. Also NoCaps, and Karpathy's JSON.

    Args:
        root: folder of the data set.
        annotations: file of the captions; ``files`` of :class:`DataFiles`.
        images: folder of the images; ``media: {image: FOLDER}`` of :class:`DataFiles`.
        ids: text file with the ids of the images to use, one per line; ``None``: the test images of a file that gives
            splits, such as Karpathy's, otherwise all.

    """

    def __init__(
        self,
        root: Path,
        annotations: str = "annotations/captions_val2014.json",
        images: str = "val2014",
        ids: str | None = None,
    ) -> None:
        super().__init__(root, [annotations], media={Modality.IMAGE.value: images})
        self.ids = None if ids is None else inside(self.root, ids)

    def missing(self, *, media: bool = False) -> list[str]:
        """As :meth:`DataFiles.missing`, and the file ``ids``."""
        absent = self.ids is not None and self.root.is_dir() and not self.ids.is_file()
        return super().missing(media=media) + ([f"ids: {self.ids}: no such file"] if absent else [])

    def named_split(self, row: Any) -> SetSplit | None:
        """``test`` for the images of ``ids``."""
        if self.ids is None:
            return super().named_split(row)
        if not isinstance(row, dict) or str(row.get("id")) not in self._chosen:
            raise LeftOut(f"their id is not in {self.file_name(self.ids)}")
        return "test"

    @cached_property
    def _chosen(self) -> frozenset[str]:
        assert self.ids is not None
        try:
            return frozenset(self.ids.read_text(encoding="utf-8-sig").split())
        except UnicodeDecodeError as error:
            raise UserError(f"ids: {self.ids}: not a text of ids in UTF-8 ({error})") from error


class MsrVtt(DataFiles):
    """MSR-VTT: ``test_videodatainfo.json`` (or ``MSRVTT_data.json``, or the table of JSFUSION) and ``TestVideo/*.mp4``.

    Args:
        root: folder of the data set.
        annotations: file of the captions; ``files`` of :class:`DataFiles`.
        videos: folder of the videos; ``media: {video: FOLDER}`` of :class:`DataFiles`.
        split: value of the column ``split`` of the videos that are used; ``split: {test: [VALUE]}`` of
            :class:`DataFiles`.

    """

    def __init__(
        self, root: Path, annotations: str = "test_videodatainfo.json", videos: str = "TestVideo", split: str = "test"
    ) -> None:
        # the table of JSFUSION has no such column, and is of test videos
        chosen: dict[str, str | list[str]] | None = None if split == "test" else {"test": [split]}
        super().__init__(root, [annotations], media={Modality.VIDEO.value: videos}, split=chosen)


class AudioCaps(DataFiles):
    """AudioCaps: ``test.csv`` with one row per caption, and one sound per clip. Also Clotho.

    Args:
        root: folder of the data set.
        annotations: the table; ``files`` of :class:`DataFiles`.
        sounds: folder of the sounds; ``media: {audio: FOLDER}`` of :class:`DataFiles`.
        name: pattern of the sounds' file names, with columns of the table in braces; ``media_name`` of
            :class:`DataFiles`. By default ``{youtube_id}.wav`` or ``{youtube_id}_{start_time}.wav``.

    """

    def __init__(
        self, root: Path, annotations: str = "test.csv", sounds: str = "test", name: str | None = None
    ) -> None:
        super().__init__(root, [annotations], media={Modality.AUDIO.value: sounds}, media_name=name)


class CaptionManifest(DataFiles):
    """Any data set as a JSONL file or table with the columns ``file`` and ``captions`` (a text or a list).

    Args:
        root: folder of the media.
        modality: modality of the media; the key of ``columns`` of :class:`DataFiles`.
        manifest: the file; ``files`` of :class:`DataFiles`.

    """

    def __init__(self, root: Path, modality: str, manifest: str = "captions.jsonl") -> None:
        if modality not in [m.value for m in MODALITIES]:
            raise UserError(f"modality={modality!r}: known are {', '.join(m.value for m in MODALITIES)}")
        columns: dict[str, str | list[str]] = {modality: "file", "caption": "captions"}
        super().__init__(root, [manifest], media={modality: "."}, columns=columns)
