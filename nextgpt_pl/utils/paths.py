"""Names of models in a YAML: ``pocket:NAME``, ``wheel:PACKAGE``, a folder, or a hub id."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

from nextgpt_pl.errors import UserError, nearest

POCKET_PARTS = ("llm", "encoder", "image", "video", "audio")
SPEECH = "speech"  # a part that the package does not have: pocket pretrain --part speech
#: towers of input media beside those of the encoder
POCKET_SENSES = ("depth", "thermal", "imu")
CHAT = "chat"  # the folder of the packed run, beside the parts
CHAT_RUN = Path(f"pocket:{CHAT}")  # the run inside the package, which verbs use where none is given


def pocket_weights() -> Path:
    """The folder of all pocket weights: inside the package, or the value of ``NEXTGPT_POCKET_WEIGHTS``."""
    return Path(os.environ.get("NEXTGPT_POCKET_WEIGHTS", Path(__file__).parent.parent / "pocket" / "weights"))


def resolve(name: str) -> str:
    """The folder that a name means; folders and hub ids are returned as they are.

    Raises:
        UserError: there is no such pocket part or its weights were never made, or no such package is installed.

    """
    kind, _, rest = name.partition(":")
    if kind == "pocket":
        return _pocket(name, rest)
    if kind == "wheel":
        # find_spec imports the parent package of a dotted name
        spec = importlib.util.find_spec(rest) if rest.isidentifier() else None
        if spec is None or not spec.submodule_search_locations:
            package = rest.replace("_", "-")
            raise UserError(f"{name!r}: no such package is installed; pip install --no-deps {package}")
        return spec.submodule_search_locations[0]
    return name


def _pocket(name: str, part: str) -> str:
    parts = (*POCKET_PARTS, *POCKET_SENSES, SPEECH, CHAT)
    if part not in parts:
        raise UserError(f"{name!r}: no such pocket part{nearest(part, parts)}")
    folder = pocket_weights() / part
    if not folder.is_dir():
        command = "pack --run RUN" if part == CHAT else f"pretrain --part {part}"
        other = "give --run, such as outputs/instruct/RUN, or " if part == CHAT else ""
        raise UserError(
            f"{name!r}: no weights in {folder}; {other}make them with: python -m nextgpt_pl pocket {command}"
        )
    return str(folder)


def run_folder(run: str | Path) -> Path:
    """The folder of a run, which may be given as ``pocket:chat``; paths are returned as they are.

    Raises:
        UserError: see :func:`resolve`.

    """
    return Path(resolve(str(run))) if str(run) == str(CHAT_RUN) else Path(run)


def adapter_folder(folder: Path) -> Path:
    """The folder of an adapter, which may be given as ``pocket:chat``; other paths are returned as they are.

    Raises:
        UserError: see :func:`resolve`.

    """
    return run_folder(folder) / "adapter" if folder == CHAT_RUN else folder


def results_folder(run: Path) -> Path:
    """The folder that results of a run are written to: the run's own, or ``outputs/chat`` for ``pocket:chat``."""
    return Path("outputs", CHAT) if run == CHAT_RUN else run
