from types import SimpleNamespace

import pytest
import torch

from nextgpt_pl.datamodules import CaptionedPairs
from nextgpt_pl.datamodules.pair_sources import PocketWorld


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_batches_are_pinned_for_a_gpu_only(device):
    data = CaptionedPairs([PocketWorld()], num_workers=2)
    data._renderer = SimpleNamespace(pad_token_id=0)
    assert data._loader_arguments()["pin_memory"] is False
    data.trainer = SimpleNamespace(strategy=SimpleNamespace(root_device=torch.device(device)))
    assert data._loader_arguments()["pin_memory"] is (device == "cuda")
