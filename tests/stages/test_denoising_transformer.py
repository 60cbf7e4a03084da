"""Stage 2 with a denoising loss through a frozen diffusion transformer."""

from functools import partial

import denoised_pipelines
import pytest
import torch
from lightning.pytorch import Callback, Trainer

from nextgpt_pl.datamodules import CaptionedPairs, PocketWorld
from nextgpt_pl.llm import CausalLM
from nextgpt_pl.model import NextGPT
from nextgpt_pl.projections import MLPOutputProjection
from nextgpt_pl.stages import DecoderAlignment


class _Losses(Callback):
    """The denoising loss of each validation."""

    def __init__(self):
        self.values = []

    def on_validation_end(self, trainer, pl_module):
        self.values.append(float(trainer.callback_metrics["val/denoising_image"]))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["FluxPipeline"])
def test_training_through_a_transformer_lowers_the_loss(name, tmp_path):
    """Noise and timesteps of validation are fixed, so its loss falls only if the gradients are right."""
    torch.manual_seed(0)
    decoder = denoised_pipelines.decoder_of(name, tmp_path / name, loss_batch=4)
    network = NextGPT(
        llm=CausalLM("pocket:llm"),
        decoders={"image": decoder},
        output_projection=partial(MLPOutputProjection, width=32),
    )
    weights = {"text_weight": 0.0, "alignment_weights": {"image": 0.0}, "denoising_weights": {"image": 1.0}}
    stage = DecoderAlignment(network, samples=0, lr=1e-2, **weights)
    data = CaptionedPairs([PocketWorld(train_size=8, val_size=8, modalities=["image"])], batch_size=8)
    trainer = Trainer(
        max_steps=20,
        callbacks=[losses := _Losses()],
        accelerator="cpu",
        default_root_dir=tmp_path,
        logger=False,
        enable_progress_bar=False,
        enable_checkpointing=False,
        num_sanity_val_steps=0,
        enable_model_summary=False,
    )
    trainer.fit(stage, datamodule=data)
    assert losses.values[-1] < 0.95 * losses.values[0]
    assert all(p.grad is None for p in decoder.denoiser().parameters())
