import json

import pytest
import torch
from lightning.pytorch import Trainer
from safetensors.torch import load_file

from nextgpt_pl.datamodules import CaptionedPairs, Dialogues, PocketDialogues, PocketWorld
from nextgpt_pl.encoders import ImageBindEncoder
from nextgpt_pl.errors import UserError
from nextgpt_pl.llm import CausalLM, LoRA
from nextgpt_pl.modality import GENERATED
from nextgpt_pl.model import NextGPT
from nextgpt_pl.pocket.parts import pocket_decoder
from nextgpt_pl.projections import MLPInputProjection, MLPOutputProjection
from nextgpt_pl.stages import DecoderAlignment, EncoderAlignment, InstructionTuning

LORA = LoRA(r=2, alpha=4, dropout=0.1)


def _network():
    torch.manual_seed(0)
    return NextGPT(
        llm=CausalLM("pocket:llm"),
        decoders={m.value: pocket_decoder(m) for m in GENERATED},
        output_projection=lambda h, k, length, d: MLPOutputProjection(h, k, length, d, width=16),
        encoder=ImageBindEncoder("pocket:encoder", video_clips=4, audio_clips=1),
        input_projection=lambda c, h: MLPInputProjection(c, h, width=16),
    )


def _fit(stage, data, folder):
    trainer = Trainer(
        max_steps=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        limit_val_batches=0,
        default_root_dir=folder,
    )
    trainer.fit(stage, data)
    return folder / "adapter"


def _dialogues():
    return Dialogues([PocketDialogues(train_size=1, val_size=1)], batch_size=11)


def _pairs():
    return CaptionedPairs([PocketWorld(train_size=2, val_size=1)], batch_size=6)


def test_it_trains_lora_projections_and_rows_and_nothing_else(tmp_path):
    stage = InstructionTuning(_network(), lora=LORA, samples=0)
    stage.configure_model()
    before = {name: p.detach().clone() for name, p in stage.network.named_parameters()}
    _fit(stage, _dialogues(), tmp_path)
    changed = {n for n, p in stage.network.named_parameters() if not torch.equal(p, before[n])}
    kinds = ("input_projections.", "output_projections.", "lora_", ".rows")
    assert all(any(kind in name for kind in kinds) for name in changed)
    assert all(any(kind in name for name in changed) for kind in kinds)
    assert not any(m.training for n, m in stage.network.llm.named_modules() if "base_layer" in n)


def test_lora_starts_as_nothing_and_its_dropout_follows_the_mode():
    stage = InstructionTuning(_network(), lora=LORA, samples=0)
    plain = _network()
    plain.load()
    stage.configure_model()
    ids = torch.arange(5, 15).unsqueeze(0)
    states = [n.llm(n.llm.embed(ids)) for n in (plain, stage.network.eval())]
    torch.testing.assert_close(*states, atol=1e-5, rtol=1e-4)
    drops = [m for n, m in stage.network.llm.named_modules() if n.endswith("lora_dropout.default")]
    assert drops
    for mode in (True, False):
        stage.network.llm.train(mode)
        assert all(m.training == mode for m in drops)


@pytest.mark.parametrize("order", ["123", "213", "31"])
def test_stages_hand_over_bit_equal_in_any_order(order, tmp_path):
    """Each stage starts from exactly what the one before left, and passes on what it does not train itself."""
    make = {
        "1": lambda **kw: (EncoderAlignment(_network(), captions=0, **kw), _pairs()),
        "2": lambda **kw: (DecoderAlignment(_network(), samples=0, **kw), _pairs()),
        "3": lambda **kw: (InstructionTuning(_network(), lora=LORA, samples=0, **kw), _dialogues()),
    }
    adapter, left = None, {}
    for number in order:
        stage, data = make[number](init_from=adapter)
        stage.configure_model()
        parameters = dict(stage.network.named_parameters())
        assert all(torch.equal(parameters[name], tensor) for name, tensor in left.items())
        adapter = _fit(stage, data, tmp_path / number)
        kept = {n: t for n, t in left.items() if n not in stage.trainable()}
        left = load_file(adapter / "adapter.safetensors")
        assert all(torch.equal(left[name], tensor) for name, tensor in kept.items())
        assert set(left) == set(kept) | set(stage.trainable())
    names = {"1": "EncoderAlignment", "2": "DecoderAlignment", "3": "InstructionTuning"}
    manifest = json.loads((adapter / "manifest.json").read_text())
    assert manifest["stages"] == [names[number] for number in order]
    assert (manifest["llm"]["lora"] is not None) == ("3" in order)


def test_what_the_adapter_does_not_hold_is_named(tmp_path, monkeypatch):
    """A stage 3 from a stage 2 that knew no stage 1 reads its media with untrained projections: that is said."""
    pairs = DecoderAlignment(_network(), samples=0)
    adapter = _fit(pairs, _pairs(), tmp_path)
    said = []
    monkeypatch.setattr("nextgpt_pl.stages.base.rank_zero_info", said.append)
    InstructionTuning(_network(), lora=LORA, samples=0, init_from=adapter).configure_model()
    anew = "input_projections.audio, input_projections.image, input_projections.video, llm LoRA"
    assert said[-1] == f"not in that adapter, so newly initialised: {anew}"


def test_other_lora_than_the_adapters_is_refused(tmp_path):
    adapter = _fit(InstructionTuning(_network(), lora=LORA, samples=0), _dialogues(), tmp_path)
    with pytest.raises(UserError, match=r"'r': 4.*'r': 2"):
        InstructionTuning(_network(), lora=LoRA(r=4), samples=0, init_from=adapter).configure_model()
    with pytest.raises(UserError, match=r"lora\.r=0"):
        LoRA(r=0)
    network = _network()
    network.load()
    with pytest.raises(UserError, match=r"target_modules=\['no_such'\]"):
        network.llm.add_lora(LoRA(target_modules=["no_such"]))


def test_without_training_the_llm_rows_and_projections_alone_train():
    stage = InstructionTuning(_network(), train_llm=False, samples=0)
    stage.configure_model()
    assert {name.split(".")[0] for name in stage.trainable()} == {"input_projections", "output_projections", "llm"}
    assert all(name.endswith(".rows") for name in stage.trainable() if name.startswith("llm"))
    assert not any("lora" in name for name, _ in stage.network.named_parameters())
