"""Start weights: the same on a GPU, which has random numbers of its own, and the same with a cache and without."""

import pytest
import tiny
import torch
from pretend_gpu import GPU, PretendGPU
from torch.utils._python_dispatch import TorchDispatchMode

from nextgpt_pl.features import FeatureCache
from nextgpt_pl.utils.initial import isolated

_RANDOM = {"aten::uniform_", "aten::normal_", "aten::randn", "aten::rand", "aten::bernoulli_"}


class _OwnGenerator(TorchDispatchMode):
    """What is drawn on the pretended GPU comes from a generator of its own."""

    def __init__(self, gpu):
        super().__init__()
        self.devices = gpu.devices
        self.state = torch.Generator().manual_seed(12345).get_state()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        tensors = [a for a in args if isinstance(a, torch.Tensor)]
        on_gpu = self.devices.on_gpu(tensors[0]) if tensors else self.devices.intent == "gpu"
        if func._schema.name not in _RANDOM or not on_gpu:
            return func(*args, **kwargs)
        with torch.random.fork_rng([]):
            torch.set_rng_state(self.state)
            found = func(*args, **kwargs)
            self.state = torch.get_rng_state()
        return found


def _weights(stage):
    stage.configure_model()
    return {name: p.detach().clone() for name, p in stage.trainable().items()}


@pytest.mark.parametrize("name", tiny.STAGES)
def test_a_gpu_starts_from_the_weights_of_the_cpu_with_a_cache_and_without(name, tiny_models, tmp_path):
    wanted = _weights(tiny.stage_and_data(name, tiny_models, 2)[0])
    for cache in (None, FeatureCache(tmp_path / "features")):
        with PretendGPU() as gpu:
            stage, _ = tiny.stage_and_data(name, tiny_models, 2, cache=cache)
            with _OwnGenerator(gpu), GPU:  # as Lightning does it: under the root device
                found = _weights(stage)
            assert all(gpu.devices.on_gpu(p) for p in stage.trainable().values())
        assert found.keys() == wanted.keys()
        for key, value in wanted.items():
            assert torch.equal(found[key], value), (key, cache is not None)


def test_an_isolated_part_draws_the_same_whatever_was_drawn_before_and_leaves_no_trace():
    torch.manual_seed(3)
    with isolated(1):
        first = torch.rand(2)
    after = torch.rand(2)
    torch.manual_seed(3)
    assert torch.equal(torch.rand(2), after)
    with isolated(1):
        assert torch.equal(torch.rand(2), first)
    with isolated(2):
        assert not torch.equal(torch.rand(2), first)
