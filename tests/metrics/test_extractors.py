"""Extractors run on their device, a few media at a time, and give features on the CPU."""

import numpy as np
import pytest
import torch
from pretend_gpu import PretendGPU

from nextgpt_pl.metrics.extractors import ModuleFeatures, PocketFeatures
from nextgpt_pl.modality import GENERATED, Modality
from nextgpt_pl.pocket.world.render import render
from nextgpt_pl.pocket.world.scenes import item_rng, item_scene
from nextgpt_pl.samples import Media


def _medium(modality, number):
    scene = item_scene("heldout", modality, number)
    return Media(modality, lambda: render(scene, item_rng("heldout", modality, number, 0, "x")), 16_000)


@pytest.mark.parametrize("modality", list(GENERATED))
def test_features_on_a_gpu_are_those_of_the_cpu(modality):
    media = [_medium(modality, number) for number in range(2)]
    wanted = PocketFeatures(device="cpu").media(media)
    with PretendGPU():
        extractor = PocketFeatures(device="cuda")
        found, captions = extractor.media(media), extractor.captions(["a red circle"])
        assert extractor._encoder.device.type == "cuda"
        assert found.device.type == captions.device.type == "cpu"
    torch.testing.assert_close(found, wanted)


def test_few_media_are_read_at_a_time_and_those_of_one_size_run_together():
    read, batches, most = [], [], []

    class Net(torch.nn.Module):
        def forward(self, batch):
            batches.append(len(batch))
            most.append(len(read))
            return batch.flatten(1).mean(1, keepdim=True)

    def source(number):
        def made():
            read.append(number)
            return np.full((4 if number != 5 else 6, 4, 3), number, np.uint8)

        return made

    media = [Media(Modality.IMAGE, source(number)) for number in range(40)]
    features = ModuleFeatures(Net(), device="cpu").media(media)
    assert features.flatten().tolist() == list(range(40))
    assert batches == [5, 1, 10, 16, 8]
    assert most == [16, 16, 16, 32, 40]
