"""Denoising losses on a pretended GPU: no operation mixes devices, and the host waits for nothing per medium."""

from collections import Counter

import denoised_pipelines
import pytest
import torch
from pretend_gpu import PretendGPU


def _synchronisations(gpu, decoder, latents, embeddings):
    """How often the host waits in the loss and its backward pass, by place."""
    before = Counter(gpu.devices.synchronisations)
    leaf = embeddings.detach().requires_grad_(True)
    decoder.denoising_loss(leaf, latents, gamma=5.0, generator=torch.Generator().manual_seed(0)).backward()
    return Counter(gpu.devices.synchronisations) - before


@pytest.mark.parametrize("name", [n for n in denoised_pipelines.CASES if n not in denoised_pipelines.POCKET])
def test_the_host_does_not_wait_for_media(name, tmp_path):
    with PretendGPU() as gpu:
        decoder = denoised_pipelines.decoder_of(name, tmp_path / name, loss_batch=2).to("cuda")
        latents = decoder.latents(denoised_pipelines.media_of(name, 2))
        embeddings = decoder.embed_captions(["a ring", "a blue star"])
        counts = _synchronisations(gpu, decoder, latents, embeddings)
    # once a pass, diffusers' Chroma copies a table to the GPU
    assert sum(counts.values()) == (name == "ChromaPipeline"), counts
