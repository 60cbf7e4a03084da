"""``network.media_in_history``: the model, its training and the verbs, on tiny models."""

import json
import math
import re
import warnings

import numpy as np
import pytest
import tiny
import torch
from PIL import Image

from nextgpt_pl.datamodules import DataFiles, Dialogues, PocketDialogues
from nextgpt_pl.datamodules.check import ItemCheck
from nextgpt_pl.datamodules.checked_media import CheckedMedia
from nextgpt_pl.datamodules.usable import RowMaker
from nextgpt_pl.dialogue.batching import pad
from nextgpt_pl.errors import UserError
from nextgpt_pl.generation.prompts import render
from nextgpt_pl.llm import LoRA
from nextgpt_pl.modality import Modality
from nextgpt_pl.readers.chat import dialogue_of
from nextgpt_pl.samples import ReplyPart
from nextgpt_pl.stages import InstructionTuning
from nextgpt_pl.verbs.inspect import lines_of

FORMS = ("signals", "features", "both")


@pytest.fixture(scope="module")
def networks(tiny_models):
    """A loaded tiny network per form; their weights are equal."""
    found = {}
    for form in FORMS:
        found[form] = tiny.network(tiny_models, media_in_history=form)
        found[form].load()
    return found


def _asked(picture):
    return [
        {"role": "user", "content": "Draw a ring."},
        {"role": "assistant", "content": [ReplyPart("text", text="Here."), ReplyPart("image", array=picture)]},
        {"role": "user", "content": "Make it blue."},
    ]


@pytest.mark.parametrize("form", FORMS)
@torch.no_grad()
def test_the_picture_of_an_earlier_reply_is_looked_at(networks, form):
    network = networks[form]
    noise = np.random.default_rng(0)
    logits = []
    for _ in range(2):
        picture = noise.integers(0, 256, (64, 64, 3), dtype=np.uint8)
        row = network.conversation().prompt(dialogue_of(_asked(picture)))
        batch = pad([row], 0)
        logits.append(network.llm.logits(network.hidden_states(batch, network.embed(batch))[:, -1]))
    assert torch.equal(*logits) == (form == "signals")
    assert (Modality.IMAGE in batch.slots) == (form != "signals")


def test_the_pipeline_shows_it_too(networks):
    noise = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    prompts = {form: [render(networks[form].conversation(), _asked(p), 8)[0] for p in noise] for form in FORMS}
    assert [len(prompts[form][0].slots) for form in FORMS] == [0, 1, 1]
    length = len(prompts["signals"][0].input_ids)
    slot, span = networks["both"].slot_length(Modality.IMAGE), len(networks["both"].span_ids()[Modality.IMAGE])
    assert [len(prompts[form][0].input_ids) - length for form in FORMS] == [0, slot - span, slot]


@pytest.mark.parametrize("form", FORMS)
def test_dialogues_are_trained_on(tiny_models, tmp_path, form):
    network = tiny.network(tiny_models, media_in_history=form)
    stage = InstructionTuning(network, lora=LoRA(r=2, alpha=4, dropout=0.0), samples=0)
    # no dialogue of this route shows a medium of the user, so every slot is one of an earlier reply
    source = PocketDialogues(train_size=4, val_size=4, routes=["follow-up"])
    data = Dialogues([source], batch_size=4)
    trainer = tiny.quiet_trainer(tmp_path, max_steps=1, limit_val_batches=1, log_every_n_steps=1)
    encoded = []
    network.encoder.register_forward_hook(lambda _module, args, _out: encoded.append(args[0]))
    trainer.fit(stage, datamodule=data)
    for name in ("train/loss", "val/loss"):
        assert math.isfinite(trainer.callback_metrics[name])
    batch = next(iter(data.val_dataloader()))
    count = {"signals": 4, "features": 8, "both": 8}[form]
    assert len(batch) == count
    assert sum(map(len, batch.slots.values())) == count - 4
    assert bool(encoded) == (form != "signals")
    printed = lines_of(batch, stage.renderer, colour=False)
    assert len(re.findall(r"<\w+ x\d+>", "".join(printed))) == count - 4
    assert len(re.findall(r"\[[A-Z]+0\.\.\d+: .+?\]", "".join(printed))) == 8


def test_the_files_of_earlier_replies_are_checked(tiny_models, tmp_path):
    for name in ("made", "last"):
        (tmp_path / f"{name}.png").write_bytes(b"no picture")
    Image.new("RGB", (32, 32)).save(tmp_path / "fine.png")
    turns = [("human", "Draw."), ("gpt", "<image>"), ("human", "Again."), ("gpt", "<image>")]
    rows = [
        {
            "conversations": [{"from": who, "value": text} for who, text in turns],
            "output_image": [first, last],
            "image_captions": ["a ring", "a star"],
        }
        for first, last in [("made.png", "fine.png"), ("fine.png", "last.png"), ("none.png", "fine.png")]
    ]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    items = DataFiles(tmp_path, ["rows.json"], media={"image": "."}, val_fraction=0.0).read("train")
    faults = {}
    for form in FORMS:
        stage = InstructionTuning(tiny.network(tiny_models, media_in_history=form), samples=0)
        make = RowMaker(stage.renderer.rows, 512)
        checked = CheckedMedia(tmp_path / f"{form}.sqlite")
        faults[form] = [ItemCheck(make, True, stage.reader.files)(item, checked).fault for item in items]
        checked.close()
    assert faults["signals"] == [None] * 3
    for form in ("features", "both"):
        assert "made.png: not a readable image" in faults[form][0]
        assert faults[form][1] is None  # no later turn looks at it
        assert "the assistant has made image, but the item has no file of it" in faults[form][2]


def test_modalities_that_no_encoder_reads_are_named_once(tiny_models):
    with pytest.warns(UserWarning, match="no encoder reads video; media of earlier replies") as warned:
        network = tiny.network(tiny_models, media_in_history="both", modalities=["image", "audio"])
    assert len(warned) == 1
    assert network.conversation().shown_in_history == {Modality.IMAGE, Modality.AUDIO}
    with warnings.catch_warnings(action="error"):
        tiny.network(tiny_models)
    with pytest.raises(UserError, match=r"network\.media_in_history='pictures': one of signals, features, both"):
        tiny.network(tiny_models, media_in_history="pictures")
