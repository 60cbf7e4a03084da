"""Captioned data sets in their published layouts: media with reference captions."""

from __future__ import annotations

import csv
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nextgpt_pl.errors import UserError
from nextgpt_pl.modality import MODALITIES, Modality
from nextgpt_pl.readers.formats import json_lines


@dataclass(frozen=True)
class Captioned:
    """A medium of a data set, its path below the set's folder, and its captions."""

    key: str
    file: str
    captions: tuple[str, ...]


class CaptionLayout(ABC):
    """Base of captioned data sets.

    Args:
        root: folder of the data set.

    Attributes:
        modality: modality of the media.

    """

    modality: Modality

    def __init__(self, root: Path) -> None:
        self.root = root

    @abstractmethod
    def needed(self) -> list[Path]:
        """Required files and folders."""

    @abstractmethod
    def entries(self) -> Iterator[Captioned]:
        """All entries, in the order of the data set; media files need not exist."""

    def missing(self) -> list[str]:
        """Missing files and folders of :meth:`needed`."""
        return [str(path) for path in self.needed() if not path.exists()]


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise UserError(f"{path}: unreadable JSON ({error})") from error


class CocoCaptions(CaptionLayout):
    """COCO: ``annotations/captions_val2014.json`` and ``val2014/*.jpg``.

    Also for Flickr30K and NoCaps in COCO's format.

    Args:
        root: folder of ``annotations`` and the images.
        annotations: file of the captions.
        images: folder of the images.
        ids: text file with one image id per line, such as the Karpathy test split; ``None``: all images.

    """

    modality = Modality.IMAGE

    def __init__(
        self,
        root: Path,
        annotations: str = "annotations/captions_val2014.json",
        images: str = "val2014",
        ids: str | None = None,
    ) -> None:
        super().__init__(root)
        self.annotations, self.images, self.ids = root / annotations, images, root / ids if ids else None

    def needed(self) -> list[Path]:
        """Captions and images, and the list of ids if one is named."""
        return [self.annotations, self.root / self.images, *([self.ids] if self.ids else [])]

    def entries(self) -> Iterator[Captioned]:
        """Images in the order of the file."""
        data = _json(self.annotations)
        captions: dict[int, list[str]] = {}
        for row in data["annotations"]:
            captions.setdefault(row["image_id"], []).append(row["caption"].strip())
        ids = set(self.ids.read_text().split()) if self.ids else None
        for image in data["images"]:
            texts = captions.get(image["id"])
            if texts and (ids is None or str(image["id"]) in ids):
                yield Captioned(str(image["id"]), f"{self.images}/{image['file_name']}", tuple(texts))


class MsrVtt(CaptionLayout):
    """MSR-VTT: ``test_videodatainfo.json`` (or ``MSRVTT_data.json``) and ``TestVideo/video7010.mp4``.

    Args:
        root: folder of the data set.
        annotations: file with ``videos`` and ``sentences``.
        videos: folder of the videos.
        split: value of ``split`` of the videos that are used.

    """

    modality = Modality.VIDEO

    def __init__(
        self,
        root: Path,
        annotations: str = "test_videodatainfo.json",
        videos: str = "TestVideo",
        split: str = "test",
    ) -> None:
        super().__init__(root)
        self.annotations, self.videos, self.split = root / annotations, videos, split

    def needed(self) -> list[Path]:
        """Sentences and videos."""
        return [self.annotations, self.root / self.videos]

    def entries(self) -> Iterator[Captioned]:
        """Videos of the split."""
        data = _json(self.annotations)
        captions: dict[str, list[str]] = {}
        for row in data["sentences"]:
            captions.setdefault(row["video_id"], []).append(row["caption"].strip())
        for video in data["videos"]:
            name = video["video_id"]
            if video.get("split") == self.split and name in captions:
                yield Captioned(name, f"{self.videos}/{name}.mp4", tuple(captions[name]))


class AudioCaps(CaptionLayout):
    """AudioCaps: ``test.csv`` (``audiocap_id, youtube_id, start_time, caption``) and one sound per clip.

    Args:
        root: folder of the data set.
        annotations: CSV table; a clip of the test split has five rows.
        sounds: folder of the sounds.
        name: pattern of the sounds' file names, with columns of the table in braces.

    """

    modality = Modality.AUDIO

    def __init__(
        self, root: Path, annotations: str = "test.csv", sounds: str = "test", name: str = "{youtube_id}.wav"
    ) -> None:
        super().__init__(root)
        self.annotations, self.sounds, self.name = root / annotations, sounds, name

    def needed(self) -> list[Path]:
        """Table and sounds."""
        return [self.annotations, self.root / self.sounds]

    def entries(self) -> Iterator[Captioned]:
        """Clips in the order of their first rows."""
        clips: dict[str, list[dict[str, str]]] = {}
        with self.annotations.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                clips.setdefault(row["youtube_id"], []).append(row)
        for key, rows in clips.items():
            file_name = self.name.format(**rows[0])
            yield Captioned(key, f"{self.sounds}/{file_name}", tuple(r["caption"].strip() for r in rows))


class CaptionManifest(CaptionLayout):
    """Any other data set: a JSONL file with ``file`` and ``captions`` (a text or a list) per line.

    Args:
        root: folder of the media.
        modality: modality of the media.
        manifest: the JSONL file.

    """

    def __init__(self, root: Path, modality: str, manifest: str = "captions.jsonl") -> None:
        super().__init__(root)
        if modality not in [m.value for m in MODALITIES]:
            raise UserError(f"modality={modality!r}: known are {', '.join(m.value for m in MODALITIES)}")
        self.modality = Modality(modality)
        self.manifest = root / manifest

    def needed(self) -> list[Path]:
        """The manifest."""
        return [self.manifest]

    def entries(self) -> Iterator[Captioned]:
        """One entry per line."""
        for row in jsonl(self.manifest, ("file", "captions")):
            captions = row["captions"] if isinstance(row["captions"], list) else [row["captions"]]
            yield Captioned(str(row["file"]), str(row["file"]), tuple(str(c) for c in captions))


def jsonl(path: Path, keys: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """The objects of a JSONL file, which must have the keys ``keys``.

    Raises:
        UserError: a line is not an object with these keys; the message names the line.

    """
    for number, row in enumerate(json_lines(path), 1):
        if isinstance(row, UserError):
            raise UserError(f"{path}: {row}")
        where = f"{path}: row {number}"
        absent = [key for key in keys if not isinstance(row, dict) or key not in row]
        if absent:
            raise UserError(f"{where} has no {absent[0]!r}")
        yield row
