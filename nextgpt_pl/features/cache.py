"""The feature cache, as configured in YAML."""

from __future__ import annotations

import json
import warnings
import weakref
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from nextgpt_pl.features.disk import MANIFEST, FeatureStore
from nextgpt_pl.features.keys import fingerprint
from nextgpt_pl.features.rounding import Dtype, RoundingError


@dataclass
class FeatureCache:
    """Features on disk, computed once for all runs, epochs and processes.

    Missing features are computed and added during training, or all at once by ``python -m nextgpt_pl cache -c FILE``.
    A frozen part is loaded when its first feature is missing; with a complete cache it is never loaded.

    Args:
        folder: folder of the stores of all producers.
        dtype: dtype of the features on disk; ``float32`` is exact, ``float16`` and ``bfloat16`` are half the size,
            ``float8_e4m3fn`` a quarter, with a scale per vector. ``python -m nextgpt_pl cache`` prints the error.

    """

    folder: Path
    dtype: Dtype = "float16"
    _stores: dict[str, FeatureStore] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        # runs when the cache is garbage-collected, or at exit
        weakref.finalize(self, _flush, self._stores)

    def store(self, kind: str, source: str, producer: dict[str, Any]) -> FeatureStore:
        """The store of a producer.

        Args:
            kind: ``encoder-image``, ``captions``, ...
            source: the part's name in the YAML; features of the same source and another producer are stale.
            producer: description of what its features depend on besides their input: weights, preprocessing.

        """
        described = {**producer, "dtype": self.dtype}
        name = f"{kind}-{fingerprint(described)}"
        if name not in self._stores:
            folder = Path(self.folder) / name
            if not folder.is_dir():
                _warn_stale(Path(self.folder), kind, {**described, "source": source})
            self._stores[name] = FeatureStore(folder, {**described, "source": source}, getattr(torch, self.dtype))
        return self._stores[name]

    def counts(self) -> dict[str, int]:
        """Number of features in each open store."""
        return {name: len(store) for name, store in self._stores.items()}

    def bytes_on_disk(self) -> dict[str, int]:
        """Size of each open store."""
        return {name: store.bytes_on_disk() for name, store in self._stores.items()}

    def errors(self) -> dict[str, RoundingError]:
        """Per open store, the error by rounding of the features that this process has added."""
        return {name: store.error for name, store in self._stores.items()}

    def dropped(self) -> int:
        """Number of features that this process could not write."""
        return sum(store.dropped for store in self._stores.values())

    def flush(self) -> None:
        """Write features that are still in memory; a full disk is a warning."""
        _flush(self._stores)


def _flush(stores: dict[str, FeatureStore]) -> None:
    for store in stores.values():
        store.flush()


def _warn_stale(root: Path, kind: str, producer: dict[str, Any]) -> None:
    """Warn about features of the same source and another producer, and name the differences."""
    for manifest in sorted(root.glob(f"{kind}-*/{MANIFEST}")):
        try:
            other = dict(json.loads(manifest.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError, RecursionError):  # damaged: of another producer, which is not used
            continue
        different = sorted(k for k in producer.keys() | other.keys() if producer.get(k) != other.get(k))
        if "source" not in different:
            warnings.warn(
                f"feature cache: {manifest.parent} is stale: other {', '.join(different)}; its features are not used",
                stacklevel=2,
            )
