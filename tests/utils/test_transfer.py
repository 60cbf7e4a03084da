"""Copies that need not be waited for are asked for where they are safe alone."""

import pytest
import torch

from nextgpt_pl.utils.transfer import upload


@pytest.mark.parametrize(("device", "waits"), [("cuda:0", False), ("cpu", True), ("mps", True), ("xpu", True)])
def test_only_a_copy_to_a_cuda_gpu_is_not_waited_for(device, waits):
    asked = []

    class Recorded(torch.Tensor):
        def to(self, *arguments, **options):
            asked.append((*arguments, options.get("non_blocking", False)))
            return self

    upload(torch.zeros(1).as_subclass(Recorded), device)
    assert asked == [(device, not waits)]
