"""Memory of the denoising loss that ``summary`` counts, against a loss that runs."""

import pytest
import torch
from denoised_pipelines import CASES, built, decoder_of

from nextgpt_pl.modality import Modality
from nextgpt_pl.sizing.costs import denoising_cost
from nextgpt_pl.sizing.live_bytes import LiveBytes

_LARGE = {"height": 128, "width": 128}


def _measured(decoder, frames):
    """Peak of the bytes that the loss of one medium holds on the CPU beside its inputs and the weights."""
    embeddings = decoder.embed_captions(["a small red circle"]).requires_grad_(True)
    latents, denoiser = torch.randn(1, *decoder.latent_shape(frames)), decoder.denoiser()
    live = LiveBytes()
    live.count([list(denoiser.parameters()), embeddings, latents])
    start = live.now
    with live:
        decoder.denoising_loss(embeddings, latents, gamma=5.0, generator=torch.Generator())
    return live.peak - start


def _save_deep(name, folder):
    """A tiny pipeline whose denoiser has six layers."""
    pipeline = built(name)
    pipeline.register_modules(
        transformer=type(pipeline.transformer).from_config(pipeline.transformer.config, num_layers=6)
    )
    pipeline.save_pretrained(folder)


_SLOW = [pytest.param(f"{name}Pipeline", marks=pytest.mark.slow) for name in ("StableDiffusion3", "Wan", "LTX")]


@pytest.mark.parametrize("name", ["FluxPipeline", *_SLOW])
def test_recomputed_blocks_are_counted_as_they_are_held(name, tmp_path):
    _save_deep(name, tmp_path / name)
    modality, held = CASES[name][0], []
    for recomputed in (False, True):
        decoder = decoder_of(name, tmp_path / name, gradient_checkpointing=recomputed, loss_size=_LARGE)
        held.append(_measured(decoder, modality is Modality.VIDEO))
        assert denoising_cost(decoder, modality).passing == pytest.approx(held[-1], rel=0.25)
    assert held[1] < 0.6 * held[0]
