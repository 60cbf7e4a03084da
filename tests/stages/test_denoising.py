import inspect
from functools import partial

import pytest
import torch
from lightning.pytorch import Trainer
from tiny_pipelines import PIPELINES, saved

from nextgpt_pl.adapter import load_adapter
from nextgpt_pl.datamodules import CaptionedPairs, PocketWorld
from nextgpt_pl.decoders import PromptDecoder
from nextgpt_pl.errors import UserError
from nextgpt_pl.llm import CausalLM
from nextgpt_pl.modality import GENERATED, Modality
from nextgpt_pl.model import NextGPT
from nextgpt_pl.projections import MLPOutputProjection
from nextgpt_pl.stages import DecoderAlignment
from nextgpt_pl.stages.denoising import Denoising

EVERY = {m.value: 1.0 for m in GENERATED}


def _trainer(folder, steps):
    return Trainer(
        max_steps=steps,
        accelerator="cpu",
        default_root_dir=folder,
        logger=False,
        enable_progress_bar=False,
        enable_checkpointing=False,
        num_sanity_val_steps=0,
        enable_model_summary=False,
    )


def _data():
    return CaptionedPairs([PocketWorld(train_size=2, val_size=2)], batch_size=6)


def _stage(network, **arguments):
    network.has_null_signals = True
    return DecoderAlignment(network, samples=0, denoising_weights=EVERY, **arguments)


def test_null_signals_start_as_the_empty_caption_train_and_are_handed_over(network, tmp_path):
    stage = _stage(network, condition_dropout=0.9)
    stage.configure_model()
    before = {}
    for modality, decoder in network.decoders.items():
        empty = decoder.embed_captions([""])[0]
        torch.testing.assert_close(network.null_signal(modality), empty)
        before[modality] = network.null_signal(modality).clone()
    trainer = _trainer(tmp_path, 1)
    trainer.fit(stage, datamodule=_data())
    assert all(float(trainer.callback_metrics[f"val/denoising_{m}"]) > 0 for m in GENERATED)
    trained = {m: network.null_signal(m).clone() for m in GENERATED}
    assert all(not torch.equal(trained[m], before[m]) for m in GENERATED)
    with torch.no_grad():
        for signal in network.null_signals.values():
            signal.zero_()
    load_adapter(tmp_path / "adapter", network)
    assert all(torch.equal(network.null_signal(m), trained[m]) for m in GENERATED)


def test_the_denoising_error_alone_teaches_the_signal_tokens(network, tmp_path):
    """Without a distance to any embedding: gradients reach projection and rows through the frozen UNet."""
    stage = DecoderAlignment(
        network,
        samples=0,
        text_weight=0.0,
        alignment_weights=dict.fromkeys(EVERY, 0.0),
        denoising_weights={"audio": 1.0},
    )
    stage.configure_model()
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    _trainer(tmp_path, 2).fit(stage, datamodule=_data())
    moved = {n for n, p in network.named_parameters() if (p - before[n]).abs().max() > 1e-5}
    assert any(name.startswith("output_projections.audio.") for name in moved)
    assert not any(name.startswith("output_projections.image.") for name in moved)
    assert "llm.model.model.embed_tokens.rows" in moved


def test_guidance_steers_away_from_the_null_signal(network):
    network.has_null_signals = True
    network.load()
    decoder = network.decoders[Modality.IMAGE]
    embedding = decoder.embed_captions(["a red circle"])
    usual, other = (
        decoder.generate(embedding, seed=0, num_inference_steps=2, negative=n)[0]
        for n in (None, network.null_signal(Modality.IMAGE))
    )
    assert (usual != other).any()
    same = decoder.generate(embedding, seed=0, num_inference_steps=2, negative=decoder.embed_captions([""])[0])[0]
    assert (usual == same).all()


@pytest.mark.parametrize("name", ["SanaPipeline", "Lumina2Pipeline"])
def test_null_signals_begin_as_the_negative_prompts_of_the_pipelines(name, tmp_path):
    """Sana puts an instruction before captions, and none before negative prompts."""
    pipeline, case = saved(name, tmp_path), PIPELINES[name]
    decoder = PromptDecoder(name, str(tmp_path), case.sampling, max_length=case.length)
    network = NextGPT(
        CausalLM("pocket:llm"), {"image": decoder}, partial(MLPOutputProjection, width=8), null_signals=True
    )
    network.load()
    Denoising(network, {"image": 1.0}, gamma=5.0, dropout=0.0).start_null_signals([])
    found = decoder.layout.unpack(network.null_signal(Modality.IMAGE)[None], "negative_")
    known = inspect.signature(pipeline.encode_prompt).parameters
    options = {n: v for n, v in case.arguments(pipeline, 1).items() if n in known}
    theirs = pipeline.encode_prompt("", do_classifier_free_guidance=True, negative_prompt="", **options)
    mask = theirs[3].bool()
    assert torch.equal(found["negative_prompt_attention_mask"].bool(), mask)
    assert torch.equal(found["negative_prompt_embeds"][mask], theirs[2][mask])
    if name == "SanaPipeline":
        assert not torch.equal(network.caption_embeddings(Modality.IMAGE, [""])[0], network.null_signal(Modality.IMAGE))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"denoising_weights": {"smell": 1.0}}, "smell"),
        ({"denoising_weights": {"image": -1.0}}, r"denoising_weights\.image=-1\.0"),
        ({"min_snr_gamma": 0.0}, r"min_snr_gamma=0\.0"),
        ({"condition_dropout": 0.1}, "set network.null_signals: true"),
        ({"condition_dropout": 1.0}, r"condition_dropout=1\.0"),
    ],
)
def test_mistakes_are_named(network, arguments, message):
    with pytest.raises(UserError, match=message):
        DecoderAlignment(network, **arguments)
