"""A GPU for tests on a machine without one: CPU tensors that pretend to be on ``cuda:0``.

    with PretendGPU() as gpu:
        trainer = gpu.trainer(folder, max_steps=2, precision="bf16-mixed")
        trainer.fit(stage, data)

At the end of the block an ``AssertionError`` lists what a GPU would have refused: operations that mix devices,
``.numpy()`` of a CUDA or bfloat16 tensor, a CPU generator for a CUDA tensor, a collective on a CPU tensor. Host
synchronisations are counted as ``torch.cuda.set_sync_debug_mode`` would warn of them: results that the host reads, and
copies between the devices that are not ``non_blocking``; so are collectives between processes.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from types import GetSetDescriptorType
from typing import Any
from unittest.mock import patch

import torch
import torch.distributed as dist
from lightning.pytorch import Trainer
from lightning.pytorch.accelerators import CPUAccelerator
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.strategies import SingleDeviceStrategy
from pretend_devices import CPU, GPU, Devices, Operations, place
from torch import Tensor
from torch.nn.utils import clip_grad
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

_FACTORIES = {
    torch.arange,
    torch.as_tensor,
    torch.asarray,
    torch.empty,
    torch.empty_strided,
    torch.eye,
    torch.full,
    torch.hann_window,
    torch.linspace,
    torch.ones,
    torch.rand,
    torch.randint,
    torch.randn,
    torch.randperm,
    torch.scalar_tensor,
    torch.tensor,
    torch.tril_indices,
    torch.triu_indices,
    torch.zeros,
}
_FROM_DATA = {torch.tensor, torch.as_tensor, torch.asarray}


class PretendGPU:
    """A context in which tensors that are moved to, or created on, ``cuda`` pretend to be there.

    Attributes:
        devices: what was noticed so far.

    """

    def __init__(self) -> None:
        self.devices = Devices()
        self._stack = ExitStack()

    def __enter__(self) -> PretendGPU:
        # dispatch modes are thread-local, so transformers' loader must not use threads
        self._stack.enter_context(patch.dict(os.environ, {"HF_DEACTIVATE_ASYNC_LOAD": "1"}))
        for target, name, value in _patches(self.devices):
            self._stack.enter_context(patch.object(target, name, value))
        self._stack.enter_context(Operations(self.devices))
        self._stack.enter_context(PythonCalls(self.devices))
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        self._stack.close()
        if kind is None:
            self.check()

    def check(self) -> None:
        """Raise an ``AssertionError`` that lists all reports, if there are any."""
        found = self.devices.reports
        lines = [f"{count} x {r.kind}: {r.detail}\n    at {r.place}" for r, count in found.items()]
        assert not lines, f"a GPU would have refused {len(lines)} operations:\n" + "\n".join(lines)

    def put(self, *tensors: Tensor) -> None:
        """Place tensors on the GPU as they are."""
        for tensor in tensors:
            self.devices.put(tensor, "gpu")

    def trainer(self, folder: Path, **options: Any) -> Trainer:
        """A quiet trainer whose only device is the pretended one.

        Args:
            folder: ``default_root_dir``.
            options: further arguments of :class:`Trainer`.

        """
        quiet = {
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "use_distributed_sampler": False,
        }
        strategy = SingleDeviceStrategy(GPU, _PretendAccelerator())
        return Trainer(strategy=strategy, devices=1, default_root_dir=folder, **{**quiet, **options})


class StepCounts(Callback):
    """Synchronisations and collectives of each training step, from the end of one to the end of the next.

    Attributes:
        steps: per step, by place, how often the host synchronised and how often processes exchanged something.

    """

    def __init__(self, gpu: PretendGPU) -> None:
        self.devices = gpu.devices
        self.steps: list[tuple[Counter[str], Counter[str]]] = []
        self._before = (Counter[str](), Counter[str]())

    def on_train_start(self, *_: Any) -> None:
        """Reset the counts, so that nothing before the first step is counted."""
        self._before = self._now()

    def on_train_batch_end(self, *_: Any) -> None:
        """One step more."""
        now = self._now()
        self.steps.append((now[0] - self._before[0], now[1] - self._before[1]))
        self._before = now

    def _now(self) -> tuple[Counter[str], Counter[str]]:
        return Counter(self.devices.synchronisations), Counter(self.devices.collectives)


class PythonCalls(TorchFunctionMode):
    """Intercepts Python-level queries of a tensor's device and moves of tensors."""

    def __init__(self, devices: Devices) -> None:
        super().__init__()
        self.devices = devices
        self._properties: dict[Any, Callable[[Tensor], Any]] = {
            Tensor.device: lambda t: GPU if devices.on_gpu(t) else t.device,
            Tensor.is_cuda: devices.on_gpu,
            Tensor.is_cpu: lambda t: t.is_cpu and not devices.on_gpu(t),
        }
        self._methods: dict[Any, Callable[..., Any]] = {
            Tensor.get_device: lambda t: 0 if devices.on_gpu(t) else -1,
            Tensor.pin_memory: lambda t, *_, **__: t,
            Tensor.record_stream: lambda *_: None,
            Tensor.cuda: self._cuda,
            Tensor.cpu: lambda t, **_: self._moved(t, CPU),
            Tensor.to: self._to,
            Tensor.__deepcopy__: self._deep_copy,
            Tensor.tolist: self._to_list,
            Tensor.numpy: self._numpy(Tensor.numpy),
            Tensor.__array__: self._numpy(Tensor.__array__),
            Tensor.new_tensor: self._new_tensor,
        }

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        # the dispatcher sees the generator of the CPU that a pretended one is
        self.devices.generator = getattr(kwargs.get("generator"), "pretended", None)
        owner = getattr(func, "__self__", None)
        if isinstance(owner, GetSetDescriptorType):
            found = self._properties.get(owner) if func.__name__ == "__get__" else None
            return found(args[0]) if found else func(*args, **kwargs)
        if func in self._methods:
            return self._methods[func](*args, **kwargs)
        if kwargs.get("device") is not None:
            return self._made_on(torch.device(kwargs["device"]), func, args, kwargs)
        if func in _FACTORIES and not (func in _FROM_DATA and self.devices.on_gpu(args[0] if args else None)):
            with self.devices.intending("cpu"):
                return func(*args, **kwargs)
        return func(*args, **kwargs)

    def _made_on(self, device: torch.device, func: Any, args: Any, kwargs: Any) -> Any:
        """A call with an explicit device."""
        if device.type == "meta":
            return func(*args, **kwargs)
        kwargs["device"] = CPU
        if device.type == "cpu":
            with self.devices.intending("cpu"):
                return func(*args, **kwargs)
        if func in _FROM_DATA and not any(self.devices.on_gpu(x) for x in tree_leaves(args)):
            self.devices.synchronised(f"torch.{func.__name__} on the GPU")
        with self.devices.intending("gpu"):
            return func(*args, **kwargs)

    def _to(self, tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        copy = kwargs.pop("copy", False)
        like = args[0] if args and isinstance(args[0], Tensor) else kwargs.pop("other", None)
        if like is not None:
            blocking = not (args[1] if len(args) > 1 else kwargs.get("non_blocking", False))
            device = GPU if self.devices.on_gpu(like) else like.device
            return self._moved(tensor, device, like.dtype, blocking, copy)
        if args and isinstance(args[0], int):
            args = (torch.device("cuda", args[0]), *args[1:])
        device, dtype, non_blocking, layout = torch._C._nn._parse_to(*args[:3], **kwargs)
        return self._moved(tensor, device, dtype, not non_blocking, copy, layout)

    def _cuda(self, tensor: Tensor, _device: Any = None, non_blocking: bool = False, **_: Any) -> Tensor:
        return self._moved(tensor, GPU, None, not non_blocking)

    def _moved(
        self,
        tensor: Tensor,
        device: torch.device | None,
        dtype: torch.dtype | None = None,
        blocking: bool = True,
        copy: bool = False,
        layout: torch.memory_format | None = None,
    ) -> Tensor:
        options: dict[str, Any] = {"dtype": dtype or tensor.dtype}
        if layout is not None:
            options["memory_format"] = layout
        if device is not None and "meta" in (device.type, tensor.device.type):
            return tensor.to(device=device, **options)
        here = self.devices.on_gpu(tensor)
        there = here if device is None else device.type == "cuda"
        if here == there:
            return tensor.to(copy=copy, **options)
        if here or blocking:
            self.devices.synchronised("copy to the CPU" if here else "blocking copy to the GPU")
        with self.devices.intending("gpu" if there else "cpu"):
            return tensor.to(copy=True, **options)

    def _deep_copy(self, tensor: Tensor, memo: Any) -> Tensor:
        copied = Tensor.__deepcopy__(tensor, memo)
        self.devices.put(copied, self.devices.of(tensor))
        return copied

    def _new_tensor(self, tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        here = self.devices.of(tensor)
        if here == "gpu":
            self.devices.synchronised("new_tensor on the GPU")
        with self.devices.intending(here):
            return tensor.new_tensor(*args, **kwargs)

    def _to_list(self, tensor: Tensor) -> Any:
        if self.devices.on_gpu(tensor):
            self.devices.synchronised("tolist")
        return tensor.tolist()

    def _numpy(self, method: Any) -> Callable[..., Any]:
        def convert(tensor: Tensor, *args: Any, **kwargs: Any) -> Any:
            if self.devices.on_gpu(tensor):
                self.devices.report("numpy() of a CUDA tensor", str(tuple(tensor.shape)))
            if tensor.dtype is torch.bfloat16:
                self.devices.report("numpy() of a bfloat16 tensor", str(tuple(tensor.shape)))
                return tensor.float().numpy()
            return method(tensor, *args, **kwargs)

        return convert


class _PretendAccelerator(CPUAccelerator):
    """An accelerator of Lightning for the pretended GPU."""

    def setup_device(self, device: torch.device) -> None:
        """Nothing to set up."""


class _Generator(torch.Generator):
    """A generator that says that it is on the device for which it is made."""

    pretended: torch.device

    def __new__(cls, device: Any = "cpu") -> _Generator:
        made = super().__new__(cls, "cpu")
        made.pretended = GPU if torch.device(device).type == "cuda" else CPU
        return made

    @property
    def device(self) -> torch.device:
        return self.pretended


def _patches(devices: Devices) -> list[tuple[Any, str, Any]]:
    """Functions of torch that need a real GPU, and their replacements."""
    autocast = torch.amp.autocast_mode.autocast
    begin, enabled, dtype = autocast.__init__, torch.is_autocast_enabled, torch.get_autocast_dtype

    def real(device_type: str) -> str:
        return "cpu" if device_type == "cuda" else device_type

    by_device = clip_grad._group_tensors_by_device_and_dtype

    def grouped(lists: list[list[Tensor]], with_indices: bool = False) -> dict[Any, Any]:
        found = by_device(lists, with_indices).items()
        return {(GPU if devices.on_gpu(of[0][0][0]) else key[0], key[1]): of for key, of in found}

    def begin_autocast(self: Any, device_type: str, *args: Any, **kwargs: Any) -> None:
        begin(self, real(device_type), *args, **kwargs)

    found: list[tuple[Any, str, Any]] = [
        (autocast, "__init__", begin_autocast),
        (torch, "is_autocast_enabled", lambda device_type="cuda": enabled(real(device_type))),
        (torch, "get_autocast_dtype", lambda device_type: dtype(real(device_type))),
        (clip_grad, "_group_tensors_by_device_and_dtype", grouped),
        # as NCCL would have it
        (dist, "get_backend", lambda *_, **__: "nccl"),
        (dist.distributed_c10d, "_get_object_coll_device", lambda *_: "cuda:0"),
        (torch, "Generator", _Generator),
        (torch.cuda, "current_device", lambda: 0),
        (torch.cuda, "set_device", lambda *_: None),
        (torch.cuda, "empty_cache", lambda: None),
        (torch.cuda, "synchronize", lambda *_: None),
        (torch.cuda, "get_rng_state", lambda *_: torch.zeros(16, dtype=torch.uint8)),
        (torch.cuda, "set_rng_state", lambda *_: None),
    ]
    checks = ("_accelerator_graph_capture_health_check", "_cuda_graph_capture_health_check")
    found += [(torch.optim.Optimizer, n, lambda _: None) for n in checks if hasattr(torch.optim.Optimizer, n)]
    with suppress(ImportError):
        from transformers import modeling_utils

        if hasattr(modeling_utils, "caching_allocator_warmup"):  # would allocate on the GPU
            found.append((modeling_utils, "caching_allocator_warmup", lambda *_, **__: None))
    return found


__all__ = ["GPU", "PretendGPU", "StepCounts", "place"]
