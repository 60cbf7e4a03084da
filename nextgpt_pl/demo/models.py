"""The runs that the page offers, of which one is loaded at a time."""

from __future__ import annotations

import gc
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from nextgpt_pl.demo.captions import NearestCaptions
from nextgpt_pl.errors import UserError, nearest
from nextgpt_pl.modality import Modality
from nextgpt_pl.pipeline import AnyToAny
from nextgpt_pl.utils.paths import CHAT_RUN, run_folder

_MANIFEST, _OUTPUTS = "adapter/manifest.json", Path("outputs")


def find_models(place: Path | None) -> dict[str, Path]:
    """Folders with ``config.yaml`` and an adapter, by name, the last changed first.

    Args:
        place: a run, or a folder of runs at any depth, such as ``outputs``; ``None``: the run of the package, then
            those in ``outputs``.

    Raises:
        UserError: there are none.

    """
    if place is None:
        outputs = _below(_OUTPUTS)
        try:
            return {str(CHAT_RUN): run_folder(CHAT_RUN), **outputs}
        except UserError:  # nothing is packed
            if not outputs:
                raise
            return outputs
    found = _below(run_folder(place))
    if not found:
        if not run_folder(place).is_dir():
            raise UserError(f"--run {place}: no such folder; give a run, or a folder of runs such as outputs")
        raise UserError(f"--run {place}: no run with config.yaml and {_MANIFEST} in it; train one with fit")
    return found


def _below(place: Path) -> dict[str, Path]:
    """The runs in a folder, which may be one itself."""
    manifests = [file for file in place.rglob(_MANIFEST) if (file.parent.parent / "config.yaml").is_file()]
    folders = [file.parent.parent for file in sorted(manifests, key=lambda file: file.stat().st_mtime, reverse=True)]
    return {folder.relative_to(place).as_posix() if folder != place else place.name: folder for folder in folders}


@dataclass(frozen=True)
class Loaded:
    """A loaded run.

    Attributes:
        name: as in :func:`find_models`.
        chat: the model.
        nearest: finds the captions that are nearest to an embedding.

    """

    name: str
    chat: AnyToAny
    nearest: NearestCaptions


class Models:
    """Loads the run that is asked for, after the last one is freed. Not thread-safe.

    Args:
        folders: by name, see :func:`find_models`.
        captions: per modality, what embeddings are compared with.
        trust: see :meth:`AnyToAny.from_run`.

    Attributes:
        closed: when it is set, the reply that is being generated ends.

    """

    def __init__(
        self, folders: Mapping[str, Path], captions: Mapping[Modality, Sequence[str]], trust: Sequence[str] = ()
    ) -> None:
        self.folders, self._captions, self._trust = dict(folders), captions, trust
        self._loaded: Loaded | None = None
        self.closed = threading.Event()

    def is_loaded(self, name: str) -> bool:
        """Whether :meth:`get` returns at once."""
        return self._loaded is not None and self._loaded.name == name

    def get(self, name: str) -> Loaded:
        """The run of a name.

        Raises:
            UserError: the page does not offer it, or it cannot be loaded.

        """
        if name not in self.folders:
            raise UserError(f"run={name!r}: not one of the page's runs{nearest(str(name), self.folders)}")
        if self._loaded is None or self._loaded.name != name:
            self._loaded = None
            gc.collect()
            if torch.cuda.is_initialized():
                torch.cuda.empty_cache()
            chat = AnyToAny.from_run(self.folders[name], trust=self._trust)
            self._loaded = Loaded(name, chat, NearestCaptions(chat.network, self._captions))
        return self._loaded
