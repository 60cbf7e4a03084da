"""The harness finds planted mistakes of every kind, and none where there are none."""

import copy

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from pretend_gpu import GPU, PretendGPU
from torch import nn


def _on_gpu(*shape):
    return torch.ones(*shape).to(GPU)


MISTAKES = {
    "addition": ("mixes devices: aten::add", lambda: _on_gpu(2) + torch.ones(2)),
    "layer that was not moved": ("mixes devices: aten::", lambda: nn.Linear(2, 3)(_on_gpu(4, 2))),
    "index of the GPU into the CPU": ("mixes devices: aten::index", lambda: torch.ones(4)[_on_gpu(2).long()]),
    "concatenation": ("mixes devices: aten::cat", lambda: torch.cat([_on_gpu(2), torch.ones(2)])),
    "labels on the CPU": (
        "mixes devices: aten::nll_loss",
        lambda: F.cross_entropy(_on_gpu(3, 5), torch.zeros(3, dtype=torch.long)),
    ),
    "assignment by index": (
        "mixes devices: aten::index_put",
        lambda: _on_gpu(4).index_put((torch.arange(2),), torch.ones(2)),
    ),
    "new tensor from shapes alone": ("mixes devices", lambda: _on_gpu(2) + torch.arange(2)),
    "moved back": ("mixes devices", lambda: _on_gpu(2) + _on_gpu(2).cpu()),
    "numpy": (r"numpy\(\) of a CUDA tensor", lambda: _on_gpu(2).numpy()),
    "array": (r"numpy\(\) of a CUDA tensor", lambda: np.asarray(_on_gpu(2))),
    "numpy of bfloat16": (r"numpy\(\) of a bfloat16 tensor", lambda: torch.ones(2, dtype=torch.bfloat16).numpy()),
    "generator of a factory": (
        "CPU generator for a CUDA tensor",
        lambda: torch.randn(2, device=GPU, generator=torch.Generator()),
    ),
    "generator of a method": (
        "CPU generator for a CUDA tensor",
        lambda: _on_gpu(2).normal_(generator=torch.Generator()),
    ),
    "generator of multinomial": (
        "CPU generator for a CUDA tensor",
        lambda: torch.multinomial(_on_gpu(4), 2, generator=torch.Generator()),
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_planted_mistake_is_reported_with_its_line(name):
    message, mistake = MISTAKES[name]
    with pytest.raises(AssertionError, match=message) as caught, PretendGPU():
        mistake()
    assert "test_pretend_gpu.py" in str(caught.value)


def _scalar_of_the_cpu():
    return _on_gpu(2) * torch.tensor(2.0)


def _training_step():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(5, 4), nn.LayerNorm(4), nn.Linear(4, 4), nn.Dropout(0.1)).to(GPU)
    optimizer = torch.optim.AdamW(model.parameters())
    for _ in range(2):
        with torch.autocast("cuda", torch.bfloat16):
            out = model(torch.arange(5, device=GPU))
        assert out.dtype is torch.bfloat16
        out[torch.arange(2)].float().square().sum().backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    assert {p.device for p in model.parameters()} == {GPU}
    return copy.deepcopy(model)(torch.zeros(1, dtype=torch.long, device=GPU))


def _made_on_the_gpu():
    with torch.device(GPU):
        made = torch.zeros(3) + torch.arange(3) + torch.ones(3).new_zeros(3)
    assert made.is_cuda
    assert made.get_device() == 0
    assert torch.empty_like(made).device == GPU
    return made + made.new_tensor([1.0, 2.0, 3.0])


def _gradient_through_an_index():
    leaf = _on_gpu(4, 2).requires_grad_()
    leaf[torch.tensor([0, 2])].sum().backward()
    return leaf + leaf.grad


@pytest.mark.parametrize("right", [_scalar_of_the_cpu, _training_step, _made_on_the_gpu, _gradient_through_an_index])
def test_what_a_gpu_takes_is_not_reported(right):
    with PretendGPU() as gpu:
        assert gpu.devices.on_gpu(right())


def test_numbers_are_those_of_the_cpu():
    def compute(device):
        torch.manual_seed(0)
        layer = nn.Linear(3, 2).to(device)
        return F.softmax(layer(torch.ones(4, 3, device=device)), -1).sum(0).cpu()

    with PretendGPU():
        pretended = compute(GPU)
    assert torch.equal(pretended, compute("cpu"))


SYNCHRONISATIONS = {
    "item": (1, lambda x: x[0].item()),
    "int": (1, lambda x: int(x[0])),
    "branch": (1, lambda x: bool(x.sum() > 3)),
    "tolist": (1, lambda x: x.tolist()),
    "to the host": (1, lambda x: x.cpu()),
    "to the device": (1, lambda x: torch.ones(2).to(GPU)),
    "from numbers": (1, lambda x: torch.tensor([1, 2], device=GPU)),
    "mask": (1, lambda x: x[x > 0]),
    "nonzero": (1, lambda x: x.nonzero()),
    "unique": (1, lambda x: x.unique()),
    "list as index": (1, lambda x: x[[0, 1]]),
    "copy into": (1, lambda x: x.copy_(torch.zeros(4))),
    "a loop of three": (3, lambda x: [float(v) for v in x[:3]]),
    "asynchronous copy": (0, lambda x: torch.ones(2).to(GPU, non_blocking=True)),
    "made there": (0, lambda x: x + torch.arange(4, device=GPU)),
    "fill by a mask": (0, lambda x: x.masked_fill(x > 0, 2.0)),
    "arithmetic": (0, lambda x: (x * 2).softmax(0).sum().to(torch.bfloat16)),
    "on the CPU": (0, lambda x: torch.ones(4).tolist()),
}


@pytest.mark.parametrize("name", SYNCHRONISATIONS)
def test_synchronisations_are_counted(name):
    expected, act = SYNCHRONISATIONS[name]
    with PretendGPU() as gpu:
        x = torch.ones(4, device=GPU)
        act(x)
    assert gpu.devices.synchronisations.total() == expected, gpu.devices.synchronisations


@pytest.fixture
def _two_processes():
    from torch.testing._internal.distributed.fake_pg import FakeStore

    dist.init_process_group("fake", rank=0, world_size=2, store=FakeStore())
    yield
    dist.destroy_process_group()


def test_collectives_are_counted_and_take_tensors_of_the_gpu_alone(_two_processes):
    with PretendGPU() as gpu:
        value = torch.ones(3, device=GPU)
        dist.all_reduce(value)
        dist.all_reduce(value)
        dist.broadcast(value, 0)
        dist.barrier()
    counts = {name.split(" ")[0]: n for name, n in gpu.devices.collectives.items()}
    assert counts.pop("barrier") == 1
    assert sum(gpu.devices.collectives.values()) == 4
    with pytest.raises(AssertionError, match="collective on a CPU tensor"), PretendGPU():
        dist.all_reduce(torch.ones(3))
