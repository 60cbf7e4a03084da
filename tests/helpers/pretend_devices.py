"""Tracks on which device each CPU tensor pretends to be, and judges operations as a GPU would.

A storage is on the GPU, on the CPU, or free. Free storages are made inside of a library function without a tensor to
take the device from; they take the device of the first tensor that they meet.

Not seen: kernels, streams, out-of-memory, and device changes inside of Python functions of torch itself.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

Where = Literal["cpu", "gpu", "free"]
GPU, CPU = torch.device("cuda", 0), torch.device("cpu")

# on a GPU the host waits for their result
_SYNCHRONISE = {
    "aten::_local_scalar_dense",
    "aten::is_nonzero",
    "aten::nonzero",
    "aten::masked_select",
    "aten::equal",
    "aten::_unique2",
    "aten::unique_dim",
    "aten::unique_consecutive",
}
_INDEXING = {"aten::index", "aten::_unsafe_index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_"}
_CROSSING = {"aten::copy_", "aten::_to_copy", "aten::set_"}
# take a scalar tensor of the CPU, though they are no pointwise operations
_TAKE_SCALARS = {"aten::fill_", "aten::masked_fill", "aten::masked_fill_", "aten::where"}
_PRUNE_EVERY = 20_000
_MACHINERY = ("<", "torch/_compile.py", "torch/_dynamo/", "torch/utils/_python_dispatch.py", "torch/overrides.py")


@dataclass(frozen=True)
class Report:
    """Something that a GPU would refuse.

    Attributes:
        kind: what kind of mistake.
        detail: operation and shapes.
        place: lines of code that led there.

    """

    kind: str
    detail: str
    place: str


@dataclass
class Devices:
    """The pretended device of each storage, and the reports.

    Attributes:
        reports: mistakes, with how often each occurred.
        synchronisations: places where the host waits for the GPU, or a blocking copy to it, with how often.
        collectives: exchanges between processes, by operation and place.
        intent: the device that is asked for explicitly by the call that runs, if any.
        generator: the device of the generator that the call is given, if any.

    """

    reports: Counter[Report] = field(default_factory=Counter)
    synchronisations: Counter[str] = field(default_factory=Counter)
    collectives: Counter[str] = field(default_factory=Counter)
    intent: Where | None = None
    generator: torch.device | None = None
    _places: dict[int, tuple[StorageWeakRef, Where]] = field(default_factory=dict)
    _calls: int = 0

    def of(self, tensor: Tensor) -> Where:
        """The pretended device of a tensor."""
        storage = _storage(tensor)
        found = None if storage is None else self._places.get(storage._cdata)
        return "cpu" if found is None or found[0].expired() else found[1]

    def on_gpu(self, value: Any) -> bool:
        """Whether a value is a tensor on the GPU."""
        return isinstance(value, Tensor) and self.of(value) == "gpu"

    def put(self, tensor: Tensor, where: Where) -> None:
        """Move the storage of a tensor without a copy."""
        storage = _storage(tensor)
        if storage is None or tensor.device.type == "meta":
            return
        if where == "cpu":
            self._places.pop(storage._cdata, None)
            return
        self._places[storage._cdata] = (StorageWeakRef(storage), where)
        self._calls += 1
        if self._calls % _PRUNE_EVERY == 0:
            self._places = {key: found for key, found in self._places.items() if not found[0].expired()}

    @contextmanager
    def intending(self, where: Where) -> Iterator[None]:
        """A context in which new tensors are placed on this device."""
        before, self.intent = self.intent, where
        try:
            yield
        finally:
            self.intent = before

    def report(self, kind: str, detail: str) -> None:
        """Note a mistake."""
        self.reports[Report(kind, detail, place())] += 1

    def synchronised(self, what: str) -> None:
        """Count a host synchronisation."""
        self.synchronisations[f"{what} at {place()}"] += 1


class Operations(TorchDispatchMode):
    """Judges each operation that reaches the dispatcher, and places its results."""

    def __init__(self, devices: Devices) -> None:
        super().__init__()
        self.devices = devices

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func._schema.name
        given = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor) and t.device.type != "meta"]
        where = [self.devices.of(t) for t in given]
        if name.startswith(("c10d::", "_c10d_functional::")):
            return self._exchange(func, name, given, args, kwargs)
        self._count(name, args, kwargs, where)
        if "gpu" in where and self.devices.intent is None:
            self._judge(func, name, args, given, where)
        generator = kwargs.get("generator")
        if generator is not None and self.devices.generator != GPU and "gpu" in (*where, self.devices.intent):
            self.devices.report("CPU generator for a CUDA tensor", name)
        out = func(*args, **kwargs)
        self._place(name, given, where, out)
        return out

    def _place(self, name: str, given: Sequence[Tensor], where: Sequence[Where], out: Any) -> None:
        results = [t for t in tree_leaves(out) if isinstance(t, Tensor)]
        intent = self.devices.intent
        if name == "aten::copy_":
            if where[0] == "free":
                self.devices.put(given[0], where[1])
            return
        if intent is not None:
            new = [t for t in results if not any(t is g for g in given)]
            for tensor in new if intent == "cpu" and name in ("aten::_to_copy", "aten::clone") else results:
                if intent == "gpu" or name in ("aten::_to_copy", "aten::clone"):
                    self.devices.put(tensor, intent)
        elif "gpu" in where:
            free = [t for t, w in zip(given, where, strict=True) if w == "free"]
            for tensor in [*results, *free]:
                self.devices.put(tensor, "gpu")
        elif not given or set(where) == {"free"}:
            for tensor in results:
                self.devices.put(tensor, "free")

    def _judge(self, func: Any, name: str, args: Any, given: Sequence[Tensor], where: Sequence[Where]) -> None:
        """Report CPU tensors that a GPU kernel would refuse."""
        if name in _CROSSING:
            return
        off = [t for t, w in zip(given, where, strict=True) if w == "cpu"]
        if name in _INDEXING and where[0] == "gpu":
            indices = [i for i in tree_leaves(args[1]) if isinstance(i, Tensor)]
            off = [t for t in off if t.dim() and not any(t is i for i in indices)]
        elif name.startswith("aten::_ctc_loss"):
            off = [t for t in off if not any(t is lengths for lengths in _ctc_lengths(name, args))]
        elif torch.Tag.pointwise in func.tags or name in _TAKE_SCALARS or name.startswith("aten::_foreach"):
            off = [t for t in off if t.dim()]
        if off:
            on = [tuple(t.shape) for t, w in zip(given, where, strict=True) if w == "gpu"]
            self.devices.report("mixes devices", f"{name}: CPU {[tuple(t.shape) for t in off][:3]}, CUDA {on[:3]}")

    def _count(self, name: str, args: Any, kwargs: Any, where: Sequence[Where]) -> None:
        if "gpu" not in where:
            return
        devices = self.devices
        if name in _SYNCHRONISE:
            devices.synchronised(name)
        elif name == "aten::copy_" and where[0] != where[1] and "free" not in where:
            if where[0] == "cpu" or not (args[2] if len(args) > 2 else kwargs.get("non_blocking", False)):
                devices.synchronised("copy_")
        elif name in _INDEXING and where[0] == "gpu":
            indices = [i for i in tree_leaves(args[1]) if isinstance(i, Tensor)]
            if any(i.dtype in (torch.bool, torch.uint8) for i in indices) and not _is_masked_fill(name, args):
                devices.synchronised(f"{name} by a mask")
            elif any(devices.of(i) == "cpu" for i in indices):
                devices.synchronised(f"{name} by an index of the CPU")
        elif name == "aten::repeat_interleave" and kwargs.get("output_size") is None:
            devices.synchronised(name)

    def _exchange(self, func: Any, name: str, given: Sequence[Tensor], args: Any, kwargs: Any) -> Any:
        """Report CPU tensors in a collective, which NCCL would refuse."""
        if not name.startswith("c10d::barrier") and any(self.devices.of(t) == "cpu" for t in given):
            self.devices.report("collective on a CPU tensor", name)
        if not name.endswith("wait_tensor"):
            self.devices.collectives[f"{name.split('::')[1]} at {place()}"] += 1
        return func(*args, **kwargs)


def _is_masked_fill(name: str, args: Any) -> bool:
    """Whether an assignment by one mask is computed as ``masked_fill``, for which nothing is counted on the host."""
    accumulates = len(args) > 3 and args[3]
    return "put" in name and len(args[1]) == 1 and args[2].numel() == 1 and not accumulates


def _ctc_lengths(name: str, args: Any) -> list[Tensor]:
    first = 3 if name.endswith("backward") else 2
    return [a for a in args[first:] if isinstance(a, Tensor) and a.dim() == 1 and not a.is_floating_point()]


def _storage(tensor: Tensor) -> Any:
    try:
        return tensor.untyped_storage()
    except (NotImplementedError, RuntimeError):  # sparse, or a wrapper without data
        return None


def place() -> str:
    """The innermost lines of the package, outside of torch, and of all, as ``file:line in function``."""
    of_all = outside = ours = ""
    frame = sys._getframe(1)
    while frame is not None and not ours:
        file, code = frame.f_code.co_filename, frame.f_code
        name = file.rsplit("/", 1)[-1]
        if not name.startswith("pretend_") and not any(part in file for part in _MACHINERY):
            short = file.rsplit("/site-packages/", 1)[-1].rsplit("/nextgpt_pl/", 1)[-1]
            line = f"{short}:{frame.f_lineno} in {code.co_name}"
            of_all = of_all or line
            outside = outside or ("" if "/torch/" in file else line)
            ours = line if "/nextgpt_pl/" in file else ""
        frame = frame.f_back  # type: ignore[assignment]
    return " < ".join(dict.fromkeys(line for line in (ours, outside, of_all) if line))
