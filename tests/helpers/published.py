"""Small data sets in their published forms: what all writers have in common."""

import io
import json
import tarfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from nextgpt_pl.media.writing import save_audio, save_image, save_video
from nextgpt_pl.modality import Modality, modality_of_file


@dataclass
class Written:
    """A data set in a folder.

    Attributes:
        files: its data files.
        texts: the captions, or pairs of question and answer, that it gives, in order.
        media: for each of them, the file's path below the folder, or what is in the data file.
        options: further arguments of ``DataFiles``.

    """

    files: list[str]
    texts: list[Any]
    media: list[str]
    options: dict[str, Any] = field(default_factory=dict)


def medium(path: Path, number: int = 0) -> Path:
    """Write a tiny image, video or sound, by the ending of the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = np.full((16, 16, 3), 40 * number + 20, np.uint8)
    match modality_of_file(path.name):
        case Modality.IMAGE:
            save_image(picture, path)
        case Modality.VIDEO:
            save_video(np.stack([picture, picture + 9]), path, 2.0)
        case _:
            save_audio(np.sin(np.arange(1600) * 0.05 * (number + 1)).astype(np.float32), path, 16_000)
    return path


def media(folder: Path, *names: str) -> list[str]:
    """Write a medium under each name."""
    for number, name in enumerate(names):
        medium(folder / name, number)
    return list(names)


def in_json(folder: Path, name: str, content: Any) -> str:
    """Write a JSON file."""
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(content), encoding="utf-8")
    return name


def in_lines(folder: Path, name: str, lines: list[Any]) -> str:
    """Write a file of lines: texts as they are, other values as JSON."""
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    (folder / name).write_text("\n".join(texts) + "\n", encoding="utf-8")
    return name


def in_tar(folder: Path, name: str, members: dict[str, bytes]) -> str:
    """Write a tar file with the members in order."""
    with tarfile.open(folder / name, "w") as archive:
        for member, content in members.items():
            entry = tarfile.TarInfo(member)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return name


def in_parquet(folder: Path, name: str, columns: dict[str, list[Any]]) -> str:
    """Write a Parquet file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table(columns), folder / name)
    return name
