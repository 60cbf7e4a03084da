import csv
from dataclasses import replace

import pytest
import tiny
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import CSVLogger

from nextgpt_pl.datamodules import CaptionedPairs, PocketWorld
from nextgpt_pl.encoders import ImageBindEncoder
from nextgpt_pl.errors import UserError
from nextgpt_pl.projections import MLPInputProjection, WordInputProjection
from nextgpt_pl.stages import EncoderAlignment


@pytest.fixture
def network(network):
    network.encoder = ImageBindEncoder("pocket:encoder", video_clips=4, audio_clips=1)
    network.input_projection_factory = lambda c, h: MLPInputProjection(c, h, width=16, expand=2)
    return network


def _data():
    return CaptionedPairs([PocketWorld(train_size=4, val_size=2)], batch_size=6)


def test_it_trains_input_projections_alone_and_writes_scored_captions(network, tmp_path):
    stage = EncoderAlignment(network, captions=4, max_new_tokens=8)
    stage.configure_model()
    before = {name: p.detach().clone() for name, p in stage.network.named_parameters()}
    trainer = Trainer(
        max_steps=2,
        val_check_interval=2,
        check_val_every_n_epoch=None,
        accelerator="cpu",
        logger=CSVLogger(tmp_path),
        enable_checkpointing=False,
        enable_progress_bar=False,
        default_root_dir=tmp_path,
    )
    trainer.fit(stage, _data())
    changed = {n for n, p in stage.network.named_parameters() if not torch.equal(p, before[n])}
    assert changed
    assert all(name.startswith("input_projections.") for name in changed)
    assert {"val/loss", "val/CIDEr-D", "val/BLEU-4"} <= set(trainer.callback_metrics)
    with (tmp_path / "samples" / "val_step_000002" / "captions.tsv").open() as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert len(rows) == 4
    # pocket items are described in sentences
    assert all(row["reference"].endswith(".") and " " in row["reference"] for row in rows)
    assert not any(key.startswith("scores") for key in stage.state_dict())


def test_a_feature_is_made_once(network, monkeypatch):
    """The encoder is frozen: the second epoch reads its features from memory."""
    stage = EncoderAlignment(network, captions=0)
    stage.configure_model()
    data = _data().with_renderer(stage.renderer)
    batch = next(iter(data.val_dataloader()))
    with torch.no_grad():
        first = stage.network.embed(batch)
        monkeypatch.setattr(network.encoder, "prepare", lambda _: pytest.fail("prepared again"))
        assert torch.equal(stage.network.embed(batch), first)


def test_the_prompt_shows_as_many_tokens_as_the_projection_gives(network):
    stage = EncoderAlignment(network)
    before = stage.renderer.slot_lengths
    stage.configure_model()
    assert stage.renderer.slot_lengths == before
    assert set(before.values()) == {2}


def test_an_encoder_is_needed(network):
    network.encoder = None
    with pytest.raises(UserError, match=r"EncoderAlignment needs network\.encoder"):
        EncoderAlignment(network)


def test_a_medium_that_no_encoder_reads_is_named_once(network, tmp_path):
    network.encoder = ImageBindEncoder("pocket:encoder", modalities=["image"])
    with pytest.raises(UserError, match=r"^[^:]*/video/0: the user shows video, but no encoder reads it, only image$"):
        tiny.quiet_trainer(tmp_path, max_steps=1).fit(
            EncoderAlignment(network),
            CaptionedPairs([PocketWorld(train_size=2, val_size=2, modalities=["video"])], batch_size=2),
        )


def test_learning_rates_are_scaled_by_parameter_name(network):
    stage = EncoderAlignment(network, lr=1e-3, lr_scales={"*.image.*": 0.1})
    stage.configure_model()
    groups = {group["lr"]: len(group["params"]) for group in stage.parameter_groups()}
    assert groups == {1e-3 * 0.1: 4, 1e-3: 8}
    stage.optimization = replace(stage.optimization, lr_scales={"*.imag.*": 0.1})
    with pytest.raises(UserError, match=r"lr_scales: '\*\.imag\.\*' fits no parameter"):
        stage.parameter_groups()


def test_the_first_steps_learn_words_without_the_llm(network, tmp_path):
    network.input_projection_factory = lambda c, h: WordInputProjection(c, h, width=16, expand=2)
    stage = EncoderAlignment(network, captions=0, word_steps=1, word_weight=0.5)
    calls = []
    network.llm.register_forward_hook(lambda *_: calls.append(stage.global_step))
    trainer = Trainer(
        max_steps=3,
        limit_val_batches=0,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        default_root_dir=tmp_path,
    )
    trainer.fit(stage, _data())
    assert calls == [1, 2]
    with pytest.raises(UserError, match="word_steps=-1"):
        EncoderAlignment(network, word_steps=-1)
