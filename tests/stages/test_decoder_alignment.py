import itertools
import json
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback
from safetensors.torch import load_file
from torch.utils.data import DataLoader

from nextgpt_pl.adapter import load_adapter
from nextgpt_pl.datamodules import CaptionedPairs, PocketWorld
from nextgpt_pl.dialogue.batching import pad
from nextgpt_pl.errors import UserError
from nextgpt_pl.modality import GENERATED, Modality
from nextgpt_pl.pocket.world import items
from nextgpt_pl.stages import DecoderAlignment


def _data(size=24, batch_size=6):
    return CaptionedPairs([PocketWorld(train_size=size, val_size=4)], batch_size=batch_size)


def _trainer(folder: Path, steps: int, **arguments):
    defaults = {"logger": False, "enable_progress_bar": False, "enable_checkpointing": False, "num_sanity_val_steps": 0}
    return Trainer(
        max_steps=steps,
        accelerator="cpu",
        default_root_dir=folder,
        enable_model_summary=False,
        **{**defaults, **arguments},
    )


def _weights(stage):
    return {name: p.detach().clone() for name, p in stage.network.named_parameters()}


def test_a_step_trains_rows_and_projections_and_nothing_else(network, tmp_path):
    stage = DecoderAlignment(network, samples=0)
    stage.configure_model()
    before = _weights(stage)
    _trainer(tmp_path, 2, limit_val_batches=0).fit(stage, datamodule=_data())
    changed = {name for name, value in _weights(stage).items() if not torch.equal(value, before[name])}
    assert changed == set(stage.trainable())
    assert all(name.startswith("output_projections.") or name.endswith(".rows") for name in changed)


def test_what_a_batch_does_not_use_is_not_updated(network, tmp_path):
    stage = DecoderAlignment(network, samples=0, warmup_ratio=0.0)
    stage.configure_model()
    weights = []

    class Weights(Callback):
        def on_train_batch_end(self, *_):
            weights.append(_weights(stage))

    media = (Modality.IMAGE, Modality.AUDIO, Modality.IMAGE)
    rows = [[stage.renderer(items.captioned_pair("train", m, n)) for n in (0, 1)] for m in media]
    batches = DataLoader([pad(row, stage.renderer.pad_token_id) for row in rows], batch_size=None)
    _trainer(tmp_path, 3, callbacks=[Weights()]).fit(stage, batches)
    # the moments of a first step would move a projection on in the second, and weight decay would shrink it
    for name in (n for n in weights[0] if n.startswith("output_projections.")):
        moved = [not torch.equal(after[name], before[name]) for before, after in itertools.pairwise(weights)]
        part = name.split(".")[1]
        assert moved == [part == "audio", part == "image"], name


def test_frozen_signal_rows_stay_as_drawn_and_are_handed_over(network, tmp_path):
    stage = DecoderAlignment(network, samples=0, train_signal_rows=False)
    stage.configure_model()
    before = _weights(stage)
    trainer = _trainer(tmp_path, 2, limit_val_batches=0)
    trainer.fit(stage, datamodule=_data())
    changed = {name for name, value in _weights(stage).items() if not torch.equal(value, before[name])}
    assert changed == set(stage.trainable())
    assert all(name.startswith("output_projections.") for name in changed)
    rows = {name for name in before if name.endswith(".rows")}
    assert rows
    # the projections were trained on these rows: whoever takes them over needs both
    assert rows <= set(load_file(tmp_path / "adapter" / "adapter.safetensors"))
    trainer.save_checkpoint(tmp_path / "x.ckpt")
    checkpoint = torch.load(tmp_path / "x.ckpt", weights_only=True)
    assert {f"network.{name}" for name in rows | changed} == set(checkpoint["state_dict"])
    assert rows | changed == set(json.loads(checkpoint["manifest"])["keys"])


@pytest.mark.slow
def test_training_lowers_the_relative_error_on_held_out_items(network, tmp_path):
    stage = DecoderAlignment(network, samples=0, lr=3e-3, alignment_weights={"audio": 100.0})
    trainer = _trainer(tmp_path, 40)
    before = trainer.validate(stage, datamodule=_data(), verbose=False)[0]
    trainer.fit(stage, datamodule=_data(256, 16))
    after = trainer.validate(stage, datamodule=_data(), verbose=False)[0]
    for modality in GENERATED:
        assert after[f"val/relative_mse_{modality}"] < 0.8 * before[f"val/relative_mse_{modality}"]
    assert after["val/loss_text"] < before["val/loss_text"] / 2


def test_checkpoint_and_adapter_hold_trainables_alone(network, tmp_path):
    stage = DecoderAlignment(network, samples=0)
    trainer = _trainer(tmp_path, 1, limit_val_batches=0)
    trainer.fit(stage, datamodule=_data())
    trainer.save_checkpoint(tmp_path / "x.ckpt")
    checkpoint = torch.load(tmp_path / "x.ckpt", weights_only=True)
    assert set(checkpoint["state_dict"]) == {f"network.{name}" for name in stage.trainable()}
    trained = _weights(stage)
    with torch.no_grad():
        for parameter in stage.trainable().values():
            parameter.zero_()
    manifest = load_adapter(tmp_path / "adapter", network)
    assert all(torch.equal(value, trained[name]) for name, value in _weights(stage).items())
    assert manifest["stages"] == ["DecoderAlignment"]


def test_a_resumed_run_equals_an_uninterrupted_one(network, tmp_path):
    from copy import deepcopy

    twin = deepcopy(network)
    whole = DecoderAlignment(network, samples=0)
    torch.manual_seed(1)
    whole.configure_model()
    torch.manual_seed(1)
    part = DecoderAlignment(twin, samples=0)
    part.configure_model()
    _trainer(tmp_path / "a", 6, limit_val_batches=0).fit(whole, datamodule=_data())
    # 12 batches an epoch: stopped in the middle of the first
    first = _trainer(tmp_path / "b", 6, limit_val_batches=0, callbacks=[_StopAt(3, tmp_path / "half.ckpt")])
    first.fit(part, datamodule=_data())
    assert first.global_step == 3
    second = _trainer(tmp_path / "b", 6, limit_val_batches=0)
    second.fit(part, datamodule=_data(), ckpt_path=tmp_path / "half.ckpt", weights_only=True)
    assert second.global_step == 6
    for name, value in _weights(part).items():
        assert torch.equal(value, _weights(whole)[name]), name


class _StopAt(Callback):
    def __init__(self, step, path):
        self.step, self.path = step, path

    def on_train_batch_end(self, trainer, *_):
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.path)
            trainer.should_stop = True


def test_a_checkpoint_of_another_experiment_is_refused(network, tmp_path):
    stage = DecoderAlignment(network, samples=0)
    stage.configure_model()
    with pytest.raises(UserError, match=r"missing .* unexpected .*other"):
        stage.on_load_checkpoint({"state_dict": {"network.other": torch.zeros(1)}, "inherited": "{}"})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"lr": -1.0}, "model.lr=-1.0"),
        ({"warmup_ratio": 1.5}, "model.warmup_ratio=1.5"),
        ({"alignment_weights": {"smell": 1.0}}, "smell"),
    ],
)
def test_bad_arguments_are_named(network, arguments, message):
    with pytest.raises(UserError, match=message):
        DecoderAlignment(network, **arguments)


def test_samples_of_each_modality_are_written(network, tmp_path):
    stage = DecoderAlignment(network, samples=1)
    for decoder in network.decoders.values():
        decoder.sampling.update({"num_inference_steps": 1, "guidance_scale": 1.0})
    network.decoders[Modality.IMAGE].sampling.update(height=64, width=64)
    network.decoders[Modality.VIDEO].sampling.update(height=64, width=64, num_frames=8)
    network.decoders[Modality.AUDIO].sampling.update(audio_length_in_s=2.0)
    _trainer(tmp_path, 1).validate(stage, datamodule=_data(), verbose=False)
    names = {p.name for p in (tmp_path / "samples" / "val_step_000000").iterdir()}
    wanted = {"image.png", "video.png", "audio.png", "image_0_text.png", "video_0_signal.gif", "video_0_signal.mp4"}
    assert wanted | {"audio_0_signal.wav", "audio_captions.txt"} <= names


def test_a_decoder_that_fails_to_draw_does_not_end_the_training(network, tmp_path, monkeypatch):
    stage = DecoderAlignment(network, samples=1)
    broken = network.decoders[Modality.IMAGE]
    monkeypatch.setattr(broken, "generate", lambda *_, **__: (_ for _ in ()).throw(RuntimeError("out of memory")))
    for modality in (Modality.VIDEO, Modality.AUDIO):
        monkeypatch.setattr(network.decoders[modality], "can_generate", False)
    stage.writer = type(stage.writer)(network.decoders, 1)
    with pytest.warns(UserWarning, match="no image samples at step 0: RuntimeError: out of memory"):
        _trainer(tmp_path, 1).validate(stage, datamodule=_data(), verbose=False)
    assert not list((tmp_path / "samples").glob("*/image.png"))


def test_a_validation_set_too_small_to_be_relative_to_is_reported(network, tmp_path):
    stage = DecoderAlignment(network, samples=0)
    data = CaptionedPairs([PocketWorld(train_size=2, val_size=1)], batch_size=6)
    with pytest.warns(UserWarning, match="no val error of audio: .* at least 2 embeddings, got 1"):
        (found,) = _trainer(tmp_path, 1).validate(stage, datamodule=data, verbose=False)
    assert "val/loss" in found
    assert "val/relative_mse_image" not in found


def test_the_encoder_is_read_where_rows_show_media_alone(tiny_models):
    """Stage 2 never runs it; what it takes over from stage 1 is handed on all the same."""
    import tiny

    for name in tiny.STAGES:
        stage, _ = tiny.stage_and_data(name, tiny_models, 2)
        stage.configure_model()
        assert stage.network.encoder.loaded == (name != "DecoderAlignment")
        assert stage.network.input_projections
