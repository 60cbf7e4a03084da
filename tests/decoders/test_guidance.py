import pytest
import torch
from torch import nn

from nextgpt_pl.decoders import DiffusionDecoder, guidance
from nextgpt_pl.errors import UserError

STEPS = 4


@pytest.fixture(params=["image", "video"])
def decoder(request):
    size = {"height": 64, "width": 64, **({"num_frames": 2} if request.param == "video" else {})}
    shared = dict.fromkeys(("vae", "text_encoder", "tokenizer"), "pocket:image") if request.param == "video" else None
    name = {"image": "StableDiffusionPipeline", "video": "TextToVideoSDPipeline"}[request.param]
    sampling = {"num_inference_steps": STEPS, "guidance_scale": 3.0, **size}
    return DiffusionDecoder(name, f"pocket:{request.param}", sampling, parts=shared)


def drawn(decoder, **sampling):
    embeddings = decoder.embed_captions(["a large red circle", "a small blue star"])
    return torch.stack([torch.from_numpy(a).float() for a in decoder.generate(embeddings, seed=0, **sampling)])


def test_batches_are_doubled_only_within_the_interval(decoder):
    unet, seen = decoder._loaded().unet, []
    unet.conv_in.register_forward_hook(lambda _m, args, _o: seen.append(args[0].shape[0]))
    drawn(decoder, guidance_interval=[0.25, 0.75])
    assert [n // seen[0] for n in seen] == [1, 2, 2, 1]
    assert not unet._forward_hooks
    assert not unet._forward_pre_hooks


def test_the_whole_interval_changes_nothing_and_no_step_of_it_is_no_guidance(decoder):
    torch.testing.assert_close(drawn(decoder, guidance_interval=[0.0, 1.0]), drawn(decoder))
    never = drawn(decoder, guidance_interval=[0.99, 1.0])
    unguided = drawn(decoder, guidance_scale=1.0, guidance_interval=[0.0, 0.5])
    assert (never - unguided).abs().max() <= 1
    assert (never - drawn(decoder)).abs().max() > 10


def test_every_tensor_of_the_doubled_batch_is_halved():
    class Denoiser(nn.Module):
        def forward(self, sample, timestep, encoder_hidden_states=None, added=None):
            assert len(sample) == len(encoder_hidden_states) == len(added["text"]) == 1
            return {"sample": sample + encoder_hidden_states}, (sample,)

    class Pipeline:
        class scheduler:
            timesteps = torch.arange(2)

    denoiser, both = Denoiser(), torch.tensor([[1.0], [2.0]])
    with guidance.limited(Pipeline, denoiser, 1, (0.5, 1.0)):
        first, second = denoiser(both, torch.tensor(7), encoder_hidden_states=both, added={"text": both, "n": 2})
    assert first["sample"].tolist() == [[4.0], [4.0]]
    assert second[0].tolist() == [[2.0], [2.0]]


@pytest.mark.parametrize("interval", [(0.5, 1.0), (0.0, 0.5)])
def test_a_pipeline_without_doubled_batches_is_named_at_its_first_step(interval):
    class Pipeline:
        class scheduler:
            timesteps = torch.arange(2)

    denoiser = nn.Identity()
    with (
        pytest.raises(UserError, match=r"guidance_interval: Pipeline gives its denoiser a batch of 1 for 1 media"),
        guidance.limited(Pipeline(), denoiser, 1, interval),
    ):
        denoiser(torch.zeros(1, 2))


@pytest.mark.parametrize("interval", [[0.5, 0.5], [0.2, 1.5], [0.1], [-0.1, 1.0], 0.5, ["a", "b"]])
def test_intervals_that_are_none_are_named(interval):
    with pytest.raises(UserError, match="guidance_interval="):
        DiffusionDecoder("StableDiffusionPipeline", "pocket:image", {"guidance_interval": interval})
