"""Count the live bytes of meta or fake tensors."""

from __future__ import annotations

import weakref
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of storages that operations allocate and free.

    Attributes:
        now: bytes that are allocated at present.
        peak: maximum of ``now`` so far.

    """

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known = weakref.WeakKeyDictionary[Any, int]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Torch's hook: count the outputs of each operation."""
        outputs = func(*args, **(kwargs or {}))
        self.count(outputs)
        return outputs

    def count(self, tensors: Any) -> None:
        """Count existing tensors, in any nested structure."""
        for tensor in tree_leaves(tensors):
            if isinstance(tensor, Tensor):
                self._count(tensor.untyped_storage())

    def _count(self, storage: Any) -> None:
        if storage in self._known:
            return
        size = storage.nbytes()
        self._known[storage] = size
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._free, size)

    def _free(self, size: int) -> None:
        self.now -= size
