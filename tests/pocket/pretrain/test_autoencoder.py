from random import Random

import pytest
import torch

from nextgpt_pl.pocket.pretrain.audio import spectrograms
from nextgpt_pl.pocket.pretrain.autoencoder import PatchBasis, build_vae
from nextgpt_pl.pocket.pretrain.image import _pictures
from nextgpt_pl.pocket.pretrain.sounds import sounds

EXAMPLES = {
    "pictures": lambda: _pictures(Random("a"), 64),
    "spectrograms": lambda: spectrograms(sounds(Random("a"), 32)),
}


@pytest.mark.parametrize("kind", EXAMPLES)
def test_the_encoder_computes_the_basis(kind):
    examples = EXAMPLES[kind]()
    basis = PatchBasis(examples, 24)
    vae = build_vae(basis, examples).eval()
    with torch.no_grad():
        posterior = vae.encode(examples[:8]).latent_dist
    expected = basis.analyse(examples[:8])
    assert expected.shape == (8, 24, 8, 8)
    assert (posterior.mean - expected).abs().max() < 0.02 * expected.abs().max()
    assert posterior.std.max() < 1e-3
    assert torch.std(basis.analyse(examples)) * vae.config.scaling_factor == pytest.approx(1.0, abs=1e-3)


def test_the_basis_keeps_nearly_all_of_a_patch():
    examples = _pictures(Random("b"), 64)
    basis = PatchBasis(examples, 24)
    # the levels are orthonormal but for the last one's scale: undo that, and energies can be compared
    scale = basis.levels[-1].norm(dim=1).view(1, -1, 1, 1)
    kept = (basis.analyse(examples) / scale).square().sum()
    # what the last level's centring takes away is the same in every patch
    patches = torch.nn.functional.pixel_unshuffle(examples, 8)
    total = (patches - patches.mean((0, 2, 3), keepdim=True)).square().sum()
    assert 0.98 < kept / total < 1.02


def test_the_decoder_starts_by_painting_each_patch_with_its_mean():
    examples = _pictures(Random("c"), 64)
    basis = PatchBasis(examples, 24)
    vae = build_vae(basis, examples).eval()
    with torch.no_grad():
        painted = vae.decode(basis.analyse(examples[:16])).sample
    coarse = torch.nn.functional.avg_pool2d(examples[:16], 8)
    assert (torch.nn.functional.avg_pool2d(painted, 8) - coarse).abs().mean() < 0.5 * coarse.abs().mean()
