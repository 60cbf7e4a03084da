"""Sharding by YAML: FSDP2 on Lightning's ``ModelParallelStrategy``, with checkpoints that any number of processes read.

The FSDP units are the LLM's and the encoder's blocks; all other modules (embeddings, heads, projections) belong to the
root unit. All parameters, also frozen ones, are sharded over the ranks; a unit is unsharded while it computes. The
decoders' text encoders are not modules of the network: each rank has its own copy.

Only rank 0 reads weights, into its main memory; the other ranks build the network on the meta device. Weights are
broadcast and sharded unit by unit, so no device holds full tensors of more than one unit. Quantized layers are an
exception: bitsandbytes packs them on the GPU, so every rank reads them. An encoder that is loaded lazily, because the
cache misses a feature, is read by the rank that needs it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from functools import partial
from typing import Any, Literal, cast

import torch
import torch.distributed as dist
from lightning.fabric.utilities.device_dtype_mixin import _update_properties
from lightning.pytorch import LightningModule
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.strategies import ModelParallelStrategy, Strategy
from lightning.pytorch.utilities import rank_zero_info
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import (
    CPUOffloadPolicy,
    FSDPModule,
    MixedPrecisionPolicy,
    OffloadPolicy,
    fully_shard,
    register_fsdp_forward_method,
)
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer
from torch.utils.checkpoint import checkpoint

from nextgpt_pl.errors import UserError
from nextgpt_pl.model import NextGPT
from nextgpt_pl.training.blocks import blocks_of
from nextgpt_pl.training.sent_weights import Sender, agree_on_layout
from nextgpt_pl.utils.distributed import full_tensor, own_shard

BlockDType = Literal["float32", "bfloat16", "float16"]
# methods of a stage that use parameters outside of blocks
_STEPS = ("training_step", "validation_step", "test_step", "predict_step", "gather_parameters")


class ShardedStrategy(ModelParallelStrategy):
    """Every rank holds a shard of each parameter. Runs on GPUs (NCCL) and, for tests, on CPUs (gloo).

    Trainable parameters are float32 in the optimizer for any compute dtype. Activation checkpointing is set by the
    LLM's ``gradient_checkpointing``.

    Args:
        block_dtype: compute dtype of the LLM's blocks; by default that of their weights (``llm.dtype``). The encoder's
            blocks compute in the dtype of their weights.
        reduce_dtype: dtype in which gradients are reduced over ranks.
        reshard_after_forward: free a block's full weights after its forward pass, and gather them again in the
            backward pass. ``false`` is faster and needs more memory.
        cpu_offload: keep shards in main memory; collectives on them use gloo.
        replicas: number of copies of the weights (HSDP). The ranks of a replica shard the weights; only gradients are
            all-reduced between replicas. ``nodes``: one replica per node, since the network between nodes is slower
            than that within a node.
        process_group_backend: such as ``nccl`` or ``gloo``; by default that of the device, and ``cuda:nccl,cpu:gloo``
            with ``cpu_offload``.

    """

    def __init__(
        self,
        block_dtype: BlockDType | None = None,
        reduce_dtype: BlockDType = "float32",
        reshard_after_forward: bool = True,
        cpu_offload: bool = False,
        replicas: int | Literal["nodes"] = 1,
        process_group_backend: str | None = None,
    ) -> None:
        if isinstance(replicas, int) and replicas < 1:
            raise UserError(f"trainer.strategy.replicas={replicas}: expected at least 1, or nodes")
        super().__init__(
            tensor_parallel_size=1, save_distributed_checkpoint=False, process_group_backend=process_group_backend
        )
        self.block_dtype, self.reduce_dtype = block_dtype, reduce_dtype
        self.reshard_after_forward, self.cpu_offload = reshard_after_forward, cpu_offload
        self.replicas = replicas
        self._weights_mesh: DeviceMesh | None = None

    def setup_environment(self) -> None:
        """Put all ranks into one data-parallel group.

        Raises:
            UserError: the number of processes is not divisible by ``replicas``.

        """
        self._data_parallel_size = self.num_nodes * self.num_processes
        super().setup_environment()
        count = self.num_nodes if self.replicas == "nodes" else self.replicas
        if count == 1:
            self._weights_mesh = self.device_mesh["data_parallel"]
            return
        if self.world_size % count:
            raise UserError(f"trainer.strategy.replicas={count}: {self.world_size} processes are not divisible by it")
        shape, names = (count, self.world_size // count), ("replicate", "shard")
        self._weights_mesh = init_device_mesh(self.root_device.type, shape, mesh_dim_names=names)

    def _get_process_group_backend(self) -> str:
        """Add gloo to NCCL for shards in main memory: gradient clipping all-reduces their norms on the CPU.

        Raises:
            UserError: ``process_group_backend`` has no backend for CPU tensors.

        """
        backend = self._process_group_backend
        if not (self.cpu_offload and self.root_device.type == "cuda"):
            return super()._get_process_group_backend()
        if backend is not None and "gloo" not in backend:
            raise UserError(
                f"trainer.strategy.process_group_backend={backend}: cpu_offload needs a backend for CPU tensors too;"
                " leave it out, or set cuda:nccl,cpu:gloo"
            )
        return backend or "cuda:nccl,cpu:gloo"

    # -- sharding -------------------------------------------------------------------------------------------------

    def build(self, network: NextGPT, build: Callable[[], None]) -> None:
        """Build the network with weights on rank 0 and on the meta device on the other ranks.

        Args:
            network: not loaded; if it is quantized, every rank reads weights.
            build: loads the network and adds trainable parts.

        Raises:
            UserError: ``build`` failed on another rank. All ranks fail together, since the others would wait forever.

        """
        reads = self.global_rank == 0 or bool(network.llm.quantization)
        failure: Exception | None = None
        try:
            with nullcontext() if reads else torch.device("meta"):
                build()
        except Exception as error:
            failure = error
        failures: list[str | None] = [None] * self.world_size
        dist.all_gather_object(failures, None if failure is None else f"{type(failure).__name__}: {failure}")
        if failure is not None:
            raise failure
        for number, reason in enumerate(failures):
            if reason is not None:
                raise UserError(f"rank {number} could not build the network: {reason}")

    def shard(self, stage: LightningModule) -> None:
        """Broadcast the weights of a stage's loaded network and shard them; the stage is the root unit.

        FSDP2's hooks run around the stage's steps: they gather the root unit's parameters, and reduce its gradients
        after the backward pass.
        """
        if isinstance(stage, FSDPModule):
            return
        network = cast(NextGPT, stage.network)
        network.prepare_for_sharding()
        blocks = blocks_of(network)
        sender = None
        if not network.llm.quantization:
            agree_on_layout(network)
            sender = Sender(self.root_device)
        offload: OffloadPolicy = OffloadPolicy()
        if self.cpu_offload and self.root_device.type != "cpu":  # on CPUs, shards are in main memory anyway
            offload = CPUOffloadPolicy()
        cut = partial(fully_shard, mesh=self._weights_mesh, offload_policy=offload)
        dtype = getattr(torch, self.block_dtype) if self.block_dtype else None
        reduce_dtype = getattr(torch, self.reduce_dtype)
        for block in blocks:
            module = block.module
            if sender is not None:
                sender.send(module)
            if block.recompute:
                # inside FSDP's hooks, so weights are gathered before recomputation
                module.forward = partial(checkpoint, module.forward, use_reentrant=False)
            policy = MixedPrecisionPolicy(param_dtype=None if block.own_dtype else dtype, reduce_dtype=reduce_dtype)
            cut(module, mp_policy=policy, reshard_after_forward=self.reshard_after_forward)
        if sender is not None:
            sender.send(network)
        # the root unit computes in the dtype of its weights: projections are small, and float32
        cut(stage, mp_policy=MixedPrecisionPolicy(reduce_dtype=reduce_dtype), reshard_after_forward=False)
        for name in _STEPS:
            register_fsdp_forward_method(stage, name)
        rank_zero_info(f"sharded over {self.world_size} processes: {len(blocks)} blocks and the rest")

    def model_to_device(self) -> None:
        """Move only buffers with ``cpu_offload``: moving sharded parameters would undo the offloading.

        Computation is on the root device, which :attr:`LightningModule.device` must give.
        """
        if not self.cpu_offload:
            super().model_to_device()
            return
        assert self.model is not None
        for module in self.model.modules():
            for name, buffer in module.named_buffers(recurse=False):
                setattr(module, name, buffer.to(self.root_device))
        # a helper of Lightning for modules that are not moved as a whole
        _update_properties(self.model, device=self.root_device)

    # -- checkpoints: full tensors under the names of a single process -----------------------------------------------

    @property
    def lightning_restore_optimizer(self) -> bool:
        """Let Lightning pass the states to :meth:`load_optimizer_state_dict`, as with one process."""
        return True

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """The full tensors that the stage saves, on every rank; other frozen weights are never gathered."""
        assert self.lightning_module is not None
        kept = {f"network.{name}" for name in cast(Any, self.lightning_module).kept_names()}
        named = self.lightning_module.named_parameters()
        return {name: full_tensor(p, self.root_device) for name, p in named if name in kept}

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """The optimizer's state dict with full tensors, as with one process."""
        inner = optimizer._optimizer if isinstance(optimizer, LightningOptimizer) else optimizer
        state = inner.state_dict()
        # new dictionaries, since the originals belong to the optimizer
        full_states = {
            number: {k: full_tensor(v, self.root_device) if isinstance(v, DTensor) else v for k, v in values.items()}
            for number, values in state["state"].items()
        }
        return {**state, "state": full_states}

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        """Every rank reads the file, which contains trainable parameters only."""
        return Strategy.load_checkpoint(self, self.broadcast(checkpoint_path), weights_only)

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        """Each rank copies its shards; the stage has checked the names."""
        assert self.lightning_module is not None
        parameters = dict(self.lightning_module.named_parameters())
        with torch.no_grad():
            for name, value in checkpoint["state_dict"].items():
                parameters[name].copy_(own_shard(value, parameters[name]))

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Each rank loads its shards."""
        for optimizer, state in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            numbers = [n for group in state["param_groups"] for n in group["params"]]
            like = dict(zip(numbers, parameters, strict=True))
            sharded = {n: _sharded_state(values, like[n]) for n, values in state["state"].items()}
            optimizer.load_state_dict({**state, "state": sharded})


def _sharded_state(values: Mapping[str, Any], like: torch.Tensor) -> dict[str, Any]:
    """Optimizer states of one parameter; states of its shape are sharded like the parameter, counters are not."""
    return {
        key: own_shard(value, like) if isinstance(value, torch.Tensor) and value.shape == like.shape else value
        for key, value in values.items()
    }
