"""The feature cache as a YAML configures it."""

from __future__ import annotations

import json
import sys
import warnings
import weakref
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

from nextgpt_pl.features.keys import fingerprint
from nextgpt_pl.features.store import MANIFEST, FeatureStore
from nextgpt_pl.utils.storage import DiskFullError


@dataclass
class FeatureCache:
    """Features on disk, made once for all runs, epochs and processes.

    What is missing is computed and added as training goes, or all at once by ``python -m nextgpt_pl cache -c FILE``.
    A part is loaded when the first thing that it must compute is missing: with a full cache, never.

    Args:
        folder: of all producers.
        dtype: of the features on disk; ``float16`` is half the size, ``float32`` exact.

    """

    folder: Path
    dtype: Literal["float16", "float32"] = "float16"
    _stores: dict[str, FeatureStore] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        # when the cache is let go of, or at the program's end
        weakref.finalize(self, _flush_at_the_end, self._stores)

    def store(self, kind: str, source: str, producer: dict[str, Any]) -> FeatureStore:
        """The store of a producer.

        Args:
            kind: ``encoder-image``, ``captions``, ...
            source: where the YAML has the part from; features of the same source and another producer are stale.
            producer: all that its features depend on but for their content: weights, preprocessing.

        """
        described = {**producer, "dtype": self.dtype}
        name = f"{kind}-{fingerprint(described)}"
        if name not in self._stores:
            folder = Path(self.folder) / name
            if not folder.is_dir():
                _tell_stale(Path(self.folder), kind, {**described, "source": source})
            self._stores[name] = FeatureStore(folder, {**described, "source": source}, getattr(torch, self.dtype))
        return self._stores[name]

    def counts(self) -> dict[str, int]:
        """How many features each store in use has."""
        return {name: len(store) for name, store in self._stores.items()}

    def flush(self) -> None:
        """Write what is still in memory."""
        _flush(self._stores)


def _flush(stores: dict[str, FeatureStore]) -> None:
    for store in stores.values():
        store.flush()


def _flush_at_the_end(stores: dict[str, FeatureStore]) -> None:
    """Write the remaining features at exit, where no caller can handle an error: print a full disk and go on."""
    try:
        _flush(stores)
    except DiskFullError as error:
        print(f"feature cache: {error}; features that were not written will be computed again", file=sys.stderr)


def _tell_stale(root: Path, kind: str, producer: dict[str, Any]) -> None:
    """Say which features are there that this producer did not make, and what is different."""
    for manifest in sorted(root.glob(f"{kind}-*/{MANIFEST}")):
        other = json.loads(manifest.read_text())
        different = sorted(k for k in producer.keys() | other.keys() if producer.get(k) != other.get(k))
        if "source" not in different:
            warnings.warn(
                f"feature cache: {manifest.parent} is stale: other {', '.join(different)}; its features are not used",
                stacklevel=2,
            )
