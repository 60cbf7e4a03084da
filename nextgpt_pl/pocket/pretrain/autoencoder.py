"""The pocket autoencoder: an ``AutoencoderKL`` whose encoder is computed, not trained.

The pocket world's images and spectrograms are close to a linear space: one or two dozen principal components of each
8x8 patch distinguish all shapes. The encoder's weights are set to compute these components, and only the decoder is
trained, on fixed latents. Training both from random weights takes hours on a laptop.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor, nn

from nextgpt_pl.errors import UserError
from nextgpt_pl.pocket.pretrain.loop import PretrainTask, train

LATENT_SIZE = 8  # of 64 x 64
_WIDTHS = (16, 32, 64, 64)
_MIDDLE = 31  # number of components of each 4x4 patch; one more channel is used by the constant
_WHITENING = 0.5  # components are divided by this power of their standard deviation, since weak ones contain edges
_ANCHOR = 100.0  # a large constant that dominates the encoder's normalisation, so that absolute levels are preserved
_DECODER_ANCHOR = 4.0
_LEADING = 6  # components that the initial decoder passes to its last layer
_LOGVAR = -20.0  # the encoder is deterministic


def pixels(arrays: Sequence[np.ndarray]) -> Tensor:
    """uint8 ``(H, W, 3)`` images as ``(N, 3, H, W)`` in [-1, 1]."""
    return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).float() / 127.5 - 1


class PatchBasis:
    """Principal components of 8x8 patches, computed level by level over 2x2 blocks, as in strided convolutions.

    Args:
        examples: ``(N, C, 64, 64)``.
        components: number of components; few make diffusion easier, many make decoding easier.

    """

    def __init__(self, examples: Tensor, components: int) -> None:
        self.components = components
        channels = examples.shape[1]
        self.levels: list[Tensor] = []
        values = examples
        for width in (4 * channels, min(16 * channels, _MIDDLE)):
            self.levels.append(_principal(values, width)[0])
            values = _project(values, self.levels[-1])
        last, mean = _principal(values, components, centred=True)
        spread = (_project(values, last) - (last @ mean).view(1, -1, 1, 1)).std((0, 2, 3))
        self.levels.append(last / spread.pow(_WHITENING).unsqueeze(1))
        self.shift = -self.levels[-1] @ mean

    def analyse(self, x: Tensor) -> Tensor:
        """``(N, C, 64, 64)`` to latents ``(N, components, 8, 8)``: equals the encoder's output."""
        for level in self.levels:
            x = _project(x, level)
        return x + self.shift.view(1, -1, 1, 1)


def _project(values: Tensor, weight: Tensor) -> Tensor:
    return torch.einsum("oi,nihw->nohw", weight, F.pixel_unshuffle(values, 2))


def _principal(values: Tensor, count: int, centred: bool = False) -> tuple[Tensor, Tensor]:
    """The ``count`` leading directions of 2x2 blocks as rows, and the blocks' mean."""
    blocks = F.pixel_unshuffle(values, 2).transpose(0, 1).flatten(1).double()
    mean = blocks.mean(1)
    if centred:
        blocks = blocks - mean.unsqueeze(1)
    vectors = torch.linalg.eigh(blocks @ blocks.T).eigenvectors.flip(1)[:, :count].T
    # the sign of a direction is arbitrary; fix it for reproducibility across machines
    signs = vectors.gather(1, vectors.abs().argmax(1, keepdim=True)).sign()
    return (vectors * signs).float().contiguous(), mean.float()


def build_vae(basis: PatchBasis, examples: Tensor) -> AutoencoderKL:
    """The autoencoder: its encoder computes ``basis``, its initial decoder fills patches with their mean."""
    channels = examples.shape[1]
    vae = AutoencoderKL(
        in_channels=channels,
        out_channels=channels,
        down_block_types=("DownEncoderBlock2D",) * len(_WIDTHS),
        up_block_types=("UpDecoderBlock2D",) * len(_WIDTHS),
        block_out_channels=_WIDTHS,
        layers_per_block=1,
        latent_channels=basis.components,
        norm_num_groups=1,
        sample_size=64,
        mid_block_add_attention=False,
    )
    with torch.no_grad():
        for half in (vae.encoder, vae.decoder):
            for name, module in half.named_modules():
                if isinstance(module, nn.Conv2d):
                    _set_identity(name, module)
        _set_encoder(vae.encoder, basis, channels)
        _start_decoder(vae.decoder, basis.analyse(examples), F.avg_pool2d(examples, 64 // LATENT_SIZE))
        for conv in (vae.quant_conv, vae.post_quant_conv):
            nn.init.dirac_(conv.weight)
            nn.init.zeros_(conv.bias)
    vae.register_to_config(scaling_factor=float(1 / basis.analyse(examples).std()))
    return vae


def _set_identity(name: str, conv: nn.Conv2d) -> None:
    """Make a layer on the main path an identity, and end every residual branch with zero."""
    if name.endswith("conv2"):
        nn.init.zeros_(conv.weight)
    elif "upsamplers" in name or "shortcut" in name:
        nn.init.dirac_(conv.weight)
    else:
        return
    assert conv.bias is not None
    nn.init.zeros_(conv.bias)


def _set_encoder(encoder: Any, basis: PatchBasis, channels: int) -> None:
    """Set the strided convolutions to the basis; the last channel of each level passes the constant."""
    conv_in, conv_out = encoder.conv_in, encoder.conv_out
    downs = [block.downsamplers[0].conv for block in encoder.down_blocks[: len(basis.levels)]]
    for conv in (conv_in, conv_out, *downs):
        nn.init.zeros_(conv.weight)
        nn.init.zeros_(conv.bias)
    for channel in range(channels):
        conv_in.weight[channel, channel, 1, 1] = 1.0
    conv_in.bias[-1] = _ANCHOR
    anchor = _WIDTHS[0] - 1
    for conv, level in zip(downs, basis.levels, strict=True):
        kernel = level.unflatten(1, (-1, 2, 2))
        conv.weight[: len(kernel), : kernel.shape[1], :2, :2] = kernel
        conv.weight[-1, anchor, 0, 0] = 1.0
        anchor = len(conv.weight) - 1
    # pairs of opposite sign make the last activation linear: silu(x) - silu(-x) = x
    last, n = downs[-1], basis.components
    last.weight[n : 2 * n] = -last.weight[:n]
    last.weight[-2] = -last.weight[-1]
    last.bias[:n], last.bias[n : 2 * n] = basis.shift, -basis.shift
    spread = _ANCHOR * (2 / _WIDTHS[-1]) ** 0.5
    for component in range(n):
        conv_out.weight[component, component, 1, 1] = spread
        conv_out.weight[component, n + component, 1, 1] = -spread
    conv_out.bias[n:] = _LOGVAR


def _start_decoder(decoder: Any, latents: Tensor, means: Tensor) -> None:
    """Pass pairs of the leading components to the output layer, which computes each patch's mean from them."""
    conv_in, conv_out = decoder.conv_in, decoder.conv_out
    rows = _LEADING
    others = latents.shape[1] - rows
    components = [*range(rows), *range(rows), -1, -1, -1, -1, *range(rows, latents.shape[1])]
    signs = [1.0] * rows + [-1.0] * rows + [0.0] * 4 + [1.0] * others
    for row, (component, sign) in enumerate(zip(components, signs, strict=True)):
        if component >= 0:
            conv_in.weight[row] = 0.0
            conv_in.bias[row] = 0.0
            conv_in.weight[row, component, 1, 1] = sign
    conv_in.weight[2 * rows : 2 * rows + 2] = 0.0
    conv_in.bias[2 * rows], conv_in.bias[2 * rows + 1] = _DECODER_ANCHOR, -_DECODER_ANCHOR
    z = latents[:, :rows].transpose(0, 1).flatten(1).T
    inputs = torch.cat([z, torch.ones(len(z), 1)], dim=1)
    solution = torch.linalg.lstsq(inputs, means.transpose(0, 1).flatten(1).T).solution
    spread = _DECODER_ANCHOR * (2 / _WIDTHS[0]) ** 0.5
    conv_out.weight.mul_(0.1)
    for component in range(rows):
        conv_out.weight[:, component, 1, 1] = spread * solution[component]
        conv_out.weight[:, rows + component, 1, 1] = -spread * solution[component]
    conv_out.bias.copy_(solution[-1])


class Decoding(PretrainTask):
    """Trains the decoder to invert the fixed encoder, by mean absolute and squared error.

    ``batches(rng)`` returns values ``(N, C, H, W)`` in about [-1, 1] and weights ``(N, 1, H, W)``, since objects cover
    a small part of the area. Noise on the latents makes the decoder robust to errors of diffusion.
    """

    noise = 0.05  # relative to the latents' standard deviation

    def __init__(
        self,
        vae: AutoencoderKL,
        basis: PatchBasis,
        batches: Callable[[Random], tuple[Tensor, Tensor]],
        *,
        steps: int,
        seed: int,
    ) -> None:
        super().__init__(steps=steps, lr=8e-4, seed=seed, weight_decay=0.0)
        vae.encoder.requires_grad_(False)
        vae.quant_conv.requires_grad_(False)
        self.vae, self.basis, self.batches = vae, basis, batches

    def loss(self, rng: Random, generator: torch.Generator) -> Tensor:
        """Weighted error of one batch."""
        x, weights = self.batches(rng)
        latents = self.basis.analyse(x)
        spread = self.noise * torch.rand(len(x), 1, 1, 1, generator=generator) / self.vae.config.scaling_factor
        latents = latents + spread * torch.randn(latents.shape, generator=generator)
        difference = self.vae.decode(latents.to(self.device)).sample - x.to(self.device)
        weights = weights.to(self.device)
        return ((difference.abs() + difference.square()) * weights).mean() / weights.mean()

    def check_encoder(self, examples: Tensor) -> None:
        """Check that the encoder, which may be from a checkpoint, computes the basis of the latents.

        Raises:
            UserError: the encoder computes another basis; the checkpoint is of another world.

        """
        expected = self.basis.analyse(examples)
        with torch.no_grad():
            actual = self.vae.encode(examples.to(self.device)).latent_dist.mean.cpu()
        if (actual - expected).abs().max() > 0.02 * expected.abs().max():
            raise UserError("the autoencoder's checkpoint is of another pocket world: delete the work folder")


def train_vae(
    examples: Tensor,
    components: int,
    batches: Callable[[Random], tuple[Tensor, Tensor]],
    work: Path,
    *,
    steps: int,
    seed: int,
) -> tuple[AutoencoderKL, PatchBasis]:
    """Train an autoencoder with the patch basis of ``examples`` ``(N, C, 64, 64)``; see :class:`Decoding`."""
    torch.manual_seed(seed)
    basis = PatchBasis(examples, components)
    task = Decoding(build_vae(basis, examples), basis, batches, steps=steps, seed=seed)
    train(task, work)
    task.check_encoder(examples[:16])
    return task.vae.requires_grad_(False), basis
