"""What of the sharded strategy can be told without a second process or a GPU."""

from types import SimpleNamespace

import pytest
import tiny
import torch

from nextgpt_pl.errors import UserError
from nextgpt_pl.training import strategies
from nextgpt_pl.training.strategies import ShardedStrategy


def _on_gpus(**options):
    strategy = ShardedStrategy(**options)
    strategy.parallel_devices = [torch.device("cuda", 0)]
    strategy.cluster_environment = SimpleNamespace(local_rank=lambda: 0)
    return strategy


@pytest.mark.parametrize(
    ("options", "backend"),
    [
        ({}, "nccl"),
        ({"cpu_offload": True}, "cuda:nccl,cpu:gloo"),
        ({"cpu_offload": True, "process_group_backend": "cpu:gloo,cuda:nccl"}, "cpu:gloo,cuda:nccl"),
    ],
)
def test_pieces_in_main_memory_are_exchanged_by_gloo(options, backend):
    assert _on_gpus(**options)._get_process_group_backend() == backend


def test_a_backend_that_cannot_exchange_pieces_in_main_memory_is_refused():
    with pytest.raises(UserError, match=r"process_group_backend=nccl.*cuda:nccl,cpu:gloo"):
        _on_gpus(cpu_offload=True, process_group_backend="nccl")._get_process_group_backend()


def test_with_offloading_the_stage_is_on_the_device_and_its_weights_stay(tiny_models, monkeypatch):
    """The meta device stands for the GPU."""
    stage, _ = tiny.stage_and_data("EncoderAlignment", tiny_models, 2)
    stage.configure_model()
    monkeypatch.setattr(ShardedStrategy, "root_device", torch.device("meta"))
    strategy = ShardedStrategy(cpu_offload=True)
    strategy.model = stage
    strategy.model_to_device()
    assert stage.device == torch.device("meta")
    assert all(p.device.type == "cpu" for p in stage.parameters())
    buffers = dict(stage.network.named_buffers())
    assert any(name.endswith("inv_freq") for name in buffers)
    assert all(buffer.is_meta for buffer in buffers.values())


def test_processes_that_do_not_divide_into_replicas_are_refused(monkeypatch):
    with pytest.raises(UserError, match="replicas=0"):
        ShardedStrategy(replicas=0)
    strategy = _on_gpus(replicas=3)
    monkeypatch.setattr(strategies.ModelParallelStrategy, "setup_environment", lambda _: None)
    strategy._device_mesh = {"data_parallel": None}
    strategy.cluster_environment.world_size = lambda: 8
    monkeypatch.setattr(ShardedStrategy, "world_size", 8)
    with pytest.raises(UserError, match="replicas=3: 8 processes"):
        strategy.setup_environment()


@pytest.mark.parametrize("failing", [0, 1])
def test_a_process_that_cannot_build_the_network_stops_all(failing, monkeypatch):
    """Seen from process 1, which reads nothing."""

    def gathered(found, own):
        found[:] = ["OSError: no such file", own] if failing == 0 else [None, own]

    monkeypatch.setattr(ShardedStrategy, "global_rank", 1)
    monkeypatch.setattr(ShardedStrategy, "world_size", 2)
    monkeypatch.setattr(strategies.dist, "all_gather_object", gathered)
    strategy, network = ShardedStrategy(), SimpleNamespace(llm=SimpleNamespace(quantization={}))
    devices = []

    def build():
        devices.append(torch.get_default_device().type)
        if failing == 1:
            raise UserError("does not fit")

    wanted = "rank 0 could not build the network: OSError: no such file" if failing == 0 else "does not fit"
    with pytest.raises(UserError, match=wanted):
        strategy.build(network, build)
    assert devices == ["meta"]
    network.llm.quantization = {"load_in_4bit": True}  # packed by each process on its own device
    with pytest.raises(UserError, match=wanted):
        strategy.build(network, build)
    assert devices == ["meta", "cpu"]


def test_block_dtype_is_of_the_llms_blocks_alone(tiny_models, monkeypatch):
    """Features of the encoder are kept: they must not depend on how the run computes."""
    stage, _ = tiny.stage_and_data("EncoderAlignment", tiny_models, 2)
    stage.configure_model()
    dtypes = {}
    monkeypatch.setattr(strategies, "agree_on_layout", lambda _: None)
    monkeypatch.setattr(strategies, "Sender", lambda _: SimpleNamespace(send=lambda _: None))
    monkeypatch.setattr(ShardedStrategy, "world_size", 1)
    monkeypatch.setattr(ShardedStrategy, "root_device", torch.device("cpu"))

    def cut(module, *, mp_policy, **_):
        dtypes[id(module)] = mp_policy.param_dtype

    monkeypatch.setattr(strategies, "fully_shard", cut)
    network = stage.network
    ShardedStrategy(block_dtype="bfloat16").shard(stage)
    assert {dtypes[id(block)] for block in network.llm.blocks()} == {torch.bfloat16}
    assert {dtypes[id(block)] for block in network.encoder.blocks()} == {None}
    assert dtypes[id(stage)] is None
