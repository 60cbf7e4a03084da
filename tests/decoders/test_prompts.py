"""Layouts of text conditioning, and decoders of pipelines that accept prompt embeddings.

``tests/support/test_pipelines.py`` compares the media of all pipelines with those of their prompts.
"""

import numpy as np
import pytest
import torch
from tiny_pipelines import LENGTH, PIPELINES, images, saved

from nextgpt_pl import decoders
from nextgpt_pl.decoders import PromptDecoder
from nextgpt_pl.decoders.embeddings import CaptionEmbeddings
from nextgpt_pl.decoders.families import family_of
from nextgpt_pl.decoders.layout import Block, TextLayout
from nextgpt_pl.decoders.outputs import from_outputs
from nextgpt_pl.errors import UserError
from nextgpt_pl.features import FeatureCache
from nextgpt_pl.modality import Modality
from nextgpt_pl.utils.paths import resolve

CAPTIONS = ["a small red circle", "star"]


def _decoder(name, folder, **options):
    case = PIPELINES[name]
    return PromptDecoder(name, str(folder), **{"sampling": case.sampling, "max_length": case.length, **options})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Folders of saved pipelines, each built once."""
    root = tmp_path_factory.mktemp("pipelines")

    def of(name):
        if not (root / name).exists():
            saved(name, root / name)
        return root / name

    return of


_STATES = Block("prompt_embeds", 3, 5)
_MASKED = Block("prompt_embeds", 3, 5, "attention_mask")
_POOLED = Block("pooled_prompt_embeds", 1, 4, pooled=True)
_WIDE = Block("pooled_prompt_embeds", 1, 7, pooled=True)


@pytest.mark.parametrize(
    ("blocks", "shape"),
    [((_STATES,), (3, 5)), ((_MASKED,), (3, 6)), ((_STATES, _POOLED), (4, 5)), ((_MASKED, _WIDE), (4, 8))],
)
def test_packing_loses_nothing(blocks, shape):
    layout = TextLayout(blocks)
    assert layout.shape == shape
    states, mask = torch.randn(2, 3, 5), torch.tensor([[1, 1, 0], [0, 1, 1]])
    values = {"prompt_embeds": states, "attention_mask": mask}
    values |= {block.name: torch.randn(2, block.width) for block in blocks if block.pooled}
    packed = layout.pack(values)
    assert packed.shape == (2, *shape)
    found = layout.unpack(packed, "negative_")
    if blocks[0].mask:
        values["prompt_embeds"] = states * mask.unsqueeze(-1)
    else:
        del values["attention_mask"]
    assert found.keys() == {f"negative_{name}" for name in values}
    assert all(torch.equal(found[f"negative_{name}"], value) for name, value in values.items())


def test_layers_lengths_and_lists_are_restored():
    layers = TextLayout((Block("states", 3, 5, layers=2), Block("others", 2, 4)))
    values = {"states": torch.randn(2, 6, 3, 5), "others": torch.randn(6, 2, 4)}
    packed = layers.pack(values)
    assert packed.shape == (6, 8, 5)
    assert all(torch.equal(value, values[name]) for name, value in layers.unpack(packed).items())
    states = [torch.randn(length, 5) for length in (1, 3, 1)]
    for cut in ("longest", "list", "equal"):
        layout = TextLayout((Block("states", 4, 5, "mask" if cut == "longest" else None, cut=cut),))
        packed = layout.pack({"states": states})
        assert packed.shape == (3, 4, 6)
        assert layout.groups(packed) == ([[0, 2], [1]] if cut == "equal" else [[0, 1, 2]])
        found = layout.unpack(packed)
        for own, restored in zip(states, found["states"], strict=True):
            assert torch.equal(restored[: len(own)], own)
        assert [len(s) for s in found["states"]] == ([1, 3, 1] if cut == "list" else [3, 3, 3])
        if cut == "longest":
            assert found["mask"].tolist() == [[1, 0, 0], [1, 1, 1], [1, 0, 0]]


def test_predicted_embeddings_have_a_token():
    """A mask of zeros would make attention undefined; Mochi's may be one."""
    for may_be_empty in (False, True):
        block = Block("prompt_embeds", 3, 5, "mask", may_be_empty=may_be_empty)
        found = TextLayout((block,)).unpack(torch.zeros(1, 3, 6))
        assert found["mask"].tolist() == [[0, 0, 0] if may_be_empty else [1, 0, 0]]


def test_another_shape_or_output_is_named():
    layout = TextLayout((_STATES,))
    with pytest.raises(UserError, match=r"prompt_embeds has 4 rows of 5 numbers, .* says 3 of 5"):
        layout.pack({"prompt_embeds": torch.zeros(1, 4, 5)})
    with pytest.raises(UserError, match="encode_prompt returned no pooled_prompt_embeds"):
        from_outputs(TextLayout((_STATES, _POOLED)), (torch.zeros(1, 3, 5), None), 1)


def test_captions_differ_and_do_not_depend_on_others(folder):
    for name in ("FluxPipeline", "QwenImagePipeline"):
        decoder = _decoder(name, folder(name))
        embeddings = decoder.embed_captions(CAPTIONS)
        assert not torch.allclose(embeddings[0], embeddings[1])
        assert torch.equal(_decoder(name, decoder.path).embed_captions(CAPTIONS[1:])[0], embeddings[1])


def test_negative_prompts_have_own_entries_in_the_cache(folder, tmp_path):
    """Sana puts an instruction before captions, and none before negative prompts."""
    decoder = _decoder("SanaPipeline", folder("SanaPipeline"), negative_prompt=CAPTIONS[1])
    kept = CaptionEmbeddings({Modality.IMAGE: decoder}, FeatureCache(tmp_path))
    positive, negative = kept(Modality.IMAGE, CAPTIONS[1:])[0], kept.negative_prompt(Modality.IMAGE)
    assert not torch.allclose(positive, negative)
    assert torch.equal(kept(Modality.IMAGE, CAPTIONS[1:])[0], positive)
    assert torch.allclose(decoder.captions.embed_negative(CAPTIONS[1]), negative, atol=1e-2)  # kept in half precision


def test_sampling_arguments_reach_the_text_encoder(folder):
    name = "StableDiffusionXLPipeline"
    sampling = PIPELINES[name].sampling
    plain, skipping = (_decoder(name, folder(name), sampling={**sampling, **more}) for more in ({}, {"clip_skip": 1}))
    assert "options" not in plain.captions.producer()
    assert skipping.captions.producer()["options"] == {"clip_skip": 1}
    assert not torch.allclose(plain.embed_captions(CAPTIONS), skipping.embed_captions(CAPTIONS))


def test_stable_diffusion_3_without_t5(tmp_path):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        pipeline = images.stable_diffusion_3(with_t5=False)
    pipeline.save_pretrained(tmp_path)
    pipeline.set_progress_bar_config(disable=True)
    decoder = _decoder("StableDiffusion3Pipeline", tmp_path)
    decoder.set_up.apply(pipeline, torch.device("cpu"))
    embeddings = decoder.embed_captions(CAPTIONS[:1])
    assert embeddings.shape[1:] == decoder.embedding_shape == (77 + LENGTH + 1, 32)
    arguments = PIPELINES["StableDiffusion3Pipeline"].arguments(pipeline, 1)
    generator = torch.Generator().manual_seed(3)
    theirs = pipeline(CAPTIONS[0], generator=generator, output_type="np", **arguments).images[0]
    np.testing.assert_array_equal(decoder.generate(embeddings, seed=3)[0], np.rint(theirs * 255).astype(np.uint8))


def test_guidance_in_an_interval(folder):
    """It works with one doubled batch; other pipelines refuse before anything is read."""
    interval = {"guidance_interval": [0.5, 1.0]}
    xl = _decoder("StableDiffusionXLPipeline", folder("StableDiffusionXLPipeline"))
    embeddings = xl.embed_captions(CAPTIONS)
    always, sometimes = (xl.generate(embeddings, seed=1, guidance_scale=50.0, **more) for more in ({}, interval))
    assert not np.array_equal(always[0], sometimes[0])
    for name, case in PIPELINES.items():
        if not family_of(name).interval:
            with pytest.raises(UserError, match=rf"sampling\.guidance_interval: {name} does not"):
                getattr(decoders, case.decoder)(name, "nowhere", {**case.sampling, **interval})


_IN_AN_INTERVAL = [name for name in PIPELINES if family_of(name).interval]


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.long if i else pytest.mark.slow) for i, n in enumerate(_IN_AN_INTERVAL)]
)
def test_pipelines_that_accept_an_interval_are_guided_in_it(name, folder):
    """Guidance in no step is no guidance: the interval begins behind the last step."""
    case = PIPELINES[name]
    decoder = getattr(decoders, case.decoder)(name, str(folder(name)), case.sampling, max_length=case.length)
    embeddings = decoder.embed_captions(CAPTIONS[:1])
    guided, never, unguided = (
        decoder.generate(embeddings, seed=1, **more)[0].astype(float)
        for more in ({"guidance_scale": 9.0}, {"guidance_interval": [0.99, 1.0]}, {"guidance_scale": 1.0})
    )
    np.testing.assert_allclose(never, unguided, atol=1)
    assert np.abs(guided - unguided).max() > np.abs(never - unguided).max()


@pytest.mark.parametrize(
    ("pipeline", "options", "message"),
    [
        ("PixArtSigmaPipeline", {"max_length": 0}, "max_length=0"),
        ("DDPMPipeline", {}, "'DDPMPipeline' takes no prompt_embeds"),
        (
            "HunyuanImagePipeline",
            {},
            "conditioning prompt_embeds_2, prompt_embeds_mask_2 is not supported",
        ),
        ("StableAudioPipeline", {}, r"its class is nextgpt_pl\.decoders\.StableAudioDecoder"),
        ("Kandinsky5T2IPipeline", {}, "takes no prompt_embeds"),
        ("AceStepPipeline", {"sampling": {"audio_duration": "long"}}, "audio_duration='long': want a number"),
        ("HiDreamImagePipeline", {"sampling": {"prompt_4": "x"}}, r"sampling\.prompt_4: .* no such argument"),
        ("HunyuanDiTPipeline", {"sampling": {"prompt_embeds_2": "x"}}, "no such argument"),
        ("QwenImagePipeline", {"sampling": {"true_cfg_scal": 2.0}}, "did you mean 'true_cfg_scale'"),
    ],
)
def test_mistakes_are_named(pipeline, options, message):
    with pytest.raises(UserError, match=message):
        PromptDecoder(pipeline, "nowhere", **options)


def test_a_folder_of_another_pipeline_is_named(folder):
    decoder = PromptDecoder("HunyuanDiTPipeline", str(folder("FluxPipeline")), max_length=LENGTH)
    with pytest.raises(UserError, match="max_length=12: HunyuanDiT takes 77 and 256 tokens"):
        _ = decoder.layout
    with pytest.raises(UserError, match=r"has no tokenizer_3/tokenizer_config\.json"):
        _ = PromptDecoder("HiDreamImagePipeline", resolve("pocket:image"), max_length=LENGTH).layout
