"""Extractors run on their device, a few media at a time, and give features on the CPU."""

import threading

import numpy as np
import pytest
import torch
from pretend_gpu import PretendGPU

from nextgpt_pl.errors import UserError
from nextgpt_pl.metrics.extractors import ClapFeatures, ClipFeatures, ModuleFeatures, PocketFeatures
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


def test_the_next_media_are_read_while_others_are_encoded_and_no_more():
    read, batches, most, ahead = [], [], [], threading.Event()

    class Net(torch.nn.Module):
        def forward(self, batch):
            assert ahead.wait(60)  # the next batch is read meanwhile
            batches.append(len(batch))
            most.append(len(read))
            return batch.flatten(1).mean(1, keepdim=True)

    def source(number):
        def made():
            read.append(number)
            if len(read) >= 32:
                ahead.set()
            return np.full((4 if number != 5 else 6, 4, 3), number, np.uint8)

        return made

    media = [Media(Modality.IMAGE, source(number)) for number in range(40)]
    features = ModuleFeatures(Net(), device="cpu").media(media)
    assert features.flatten().tolist() == list(range(40))
    assert batches == [5, 1, 10, 16, 8]
    assert most[:3] == [32] * 3
    assert 32 <= most[3] <= most[4] == 40


def test_a_medium_that_cannot_be_read_is_named(tmp_path):
    media = [_medium(Modality.IMAGE, number) for number in range(20)]
    media[18] = Media(Modality.IMAGE, tmp_path / "gone.png")
    with pytest.raises(UserError, match=r"gone.png: no such file"):
        PocketFeatures(device="cpu").media(media)


def test_extractors_that_compute_the_same_are_known_by_it():
    assert PocketFeatures(device="cpu").identity == PocketFeatures(device="cpu").identity
    assert PocketFeatures(device="cpu").identity != PocketFeatures(device="cpu", logits=True).identity
    assert ClipFeatures("a", frames=4).identity == ClipFeatures("a", frames=4).identity
    assert len({ClipFeatures("a", 4).identity, ClipFeatures("a", 8).identity, ClapFeatures("a").identity}) == 3
    net = torch.nn.Identity()
    assert ModuleFeatures(net).identity != ModuleFeatures(net).identity
