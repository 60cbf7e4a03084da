"""Sharding by YAML: FSDP2 on Lightning's ``ModelParallelStrategy``, with checkpoints that any number of processes read.

The units are the LLM's and the encoder's blocks; what is left (embeddings, heads, projections) is one more, the root.
All parameters, frozen ones too, are cut into as many pieces as there are processes; a unit is put together while it
computes. The decoders' text encoders are no modules of the network: each process has its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Literal, cast

import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.strategies import ModelParallelStrategy, Strategy
from lightning.pytorch.utilities import rank_zero_info
from torch.distributed.fsdp import (
    CPUOffloadPolicy,
    FSDPModule,
    MixedPrecisionPolicy,
    OffloadPolicy,
    fully_shard,
)
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer
from torch.utils.checkpoint import checkpoint

from nextgpt_pl.distributed import own_shard, whole
from nextgpt_pl.model import NextGPT

BlockDType = Literal["float32", "bfloat16", "float16"]


class ShardedStrategy(ModelParallelStrategy):
    """Every process holds a piece of each parameter. Runs on GPUs (NCCL) and, for tests, on CPUs (gloo).

    Trainables stay float32 in the optimizer whatever their block computes in; activation checkpointing is the LLM's
    ``gradient_checkpointing``.

    Args:
        block_dtype: what the blocks compute in; by default what they are stored in (``llm.dtype``).
        reduce_dtype: what gradients are summed over processes in.
        reshard_after_forward: let go of a block's whole weights after its forward pass, and gather them again in the
            backward pass. ``false`` is faster and takes more memory.
        cpu_offload: keep the pieces in main memory.
        process_group_backend: ``nccl`` or ``gloo``; by default the device's.

    """

    def __init__(
        self,
        block_dtype: BlockDType | None = None,
        reduce_dtype: BlockDType = "float32",
        reshard_after_forward: bool = True,
        cpu_offload: bool = False,
        process_group_backend: str | None = None,
    ) -> None:
        super().__init__(
            tensor_parallel_size=1, save_distributed_checkpoint=False, process_group_backend=process_group_backend
        )
        self.block_dtype, self.reduce_dtype = block_dtype, reduce_dtype
        self.reshard_after_forward, self.cpu_offload = reshard_after_forward, cpu_offload

    def setup_environment(self) -> None:
        """All processes are one data-parallel group."""
        self._data_parallel_size = self.num_nodes * self.num_processes
        super().setup_environment()

    # -- sharding -------------------------------------------------------------------------------------------------

    def shard(self, network: NextGPT) -> None:
        """Cut a loaded network into pieces; :meth:`Stage.configure_model` calls this."""
        if isinstance(network, FSDPModule):
            return
        network.prepare_for_sharding()
        offload: OffloadPolicy = OffloadPolicy()
        if self.cpu_offload and self.root_device.type != "cpu":  # there, they are in main memory anyway
            offload = CPUOffloadPolicy()
        cut = partial(fully_shard, mesh=self.device_mesh["data_parallel"], offload_policy=offload)
        dtype = getattr(torch, self.block_dtype) if self.block_dtype else None
        reduce_dtype = getattr(torch, self.reduce_dtype)
        blocks = network.blocks()
        for block, recompute in blocks:
            if recompute:
                # inside of FSDP's hooks: what is computed again finds its weights gathered already
                block.forward = partial(checkpoint, block.forward, use_reentrant=False)
            policy = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=reduce_dtype)
            cut(block, mp_policy=policy, reshard_after_forward=self.reshard_after_forward)
        # the rest computes in its own dtype: projections are small, and float32
        cut(network, mp_policy=MixedPrecisionPolicy(reduce_dtype=reduce_dtype), reshard_after_forward=False)
        rank_zero_info(f"sharded over {self.world_size} processes: {len(blocks)} blocks and the rest")

    def model_to_device(self) -> None:
        """Sharded parameters are where they belong; moving them would undo the offloading."""
        if not self.cpu_offload:
            super().model_to_device()
            return
        assert self.model is not None
        for module in self.model.modules():
            for name, buffer in module.named_buffers(recurse=False):
                setattr(module, name, buffer.to(self.root_device))

    # -- checkpoints: whole tensors under the names that one process has ---------------------------------------------

    @property
    def lightning_restore_optimizer(self) -> bool:
        """Lightning hands the states to :meth:`load_optimizer_state_dict`, as it does for one process."""
        return True

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """What the stage keeps, whole, on every process; other frozen weights are never gathered."""
        assert self.lightning_module is not None
        kept = {f"network.{name}" for name in cast(Any, self.lightning_module).kept_names()}
        named = self.lightning_module.named_parameters()
        return {name: whole(p, self.root_device) for name, p in named if name in kept}

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """As ``optimizer.state_dict()`` of one process."""
        plain = optimizer._optimizer if isinstance(optimizer, LightningOptimizer) else optimizer
        state = plain.state_dict()
        # new dictionaries: those are the optimizer's own
        gathered = {
            number: {k: whole(v, self.root_device) if isinstance(v, DTensor) else v for k, v in values.items()}
            for number, values in state["state"].items()
        }
        return {**state, "state": gathered}

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        """Every process reads the file, which holds trainables alone."""
        return Strategy.load_checkpoint(self, self.broadcast(checkpoint_path), weights_only)

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        """Each process takes its pieces; the stage has checked the names."""
        assert self.lightning_module is not None
        parameters = dict(self.lightning_module.named_parameters())
        with torch.no_grad():
            for name, value in checkpoint["state_dict"].items():
                parameters[name].copy_(own_shard(value, parameters[name]))

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Each process takes its pieces."""
        for optimizer, state in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            numbers = [n for group in state["param_groups"] for n in group["params"]]
            like = dict(zip(numbers, parameters, strict=True))
            cut = {n: _cut(values, like[n]) for n, values in state["state"].items()}
            optimizer.load_state_dict({**state, "state": cut})


def _cut(values: Mapping[str, Any], like: torch.Tensor) -> dict[str, Any]:
    """The states of one parameter: those of its shape are sharded as it is, counters are not."""
    return {
        key: own_shard(value, like) if isinstance(value, torch.Tensor) and value.shape == like.shape else value
        for key, value in values.items()
    }
