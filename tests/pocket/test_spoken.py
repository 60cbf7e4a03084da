"""Spoken requests: held-out pairs, files, dialogues and tasks; silence stands in for the voice."""

import numpy as np
import pytest
import soundfile
import torch

from nextgpt_pl.datamodules import SpokenRequests
from nextgpt_pl.evaluation import JudgedRight, SpokenImages
from nextgpt_pl.modality import Modality
from nextgpt_pl.pocket.spoken import Reader, is_held_out, spoken_request
from nextgpt_pl.pocket.world.scenes import COLOURS, SHAPES


class _Tone:
    """In the place of a voice."""

    rate = 8000.0

    def __init__(self):
        self.said = []

    def generate_from_words(self, words, *, seed, **sampling):
        self.said += words
        return [np.full(800, 0.25, np.float32) for _ in words]


@pytest.fixture
def reader(tmp_path):
    reader = Reader(tmp_path)
    reader.__dict__["_decoder"] = _Tone()
    return reader


def test_training_never_says_the_pairs_of_held_out_requests():
    said = {split: set() for split in ("train", "heldout")}
    for split, pairs in said.items():
        for index in range(300):
            (thing,) = spoken_request(split, index).scene.things
            pairs.add((thing.colour, thing.shape))
            assert f"{thing.size} {thing.colour} {thing.shape}" in spoken_request(split, index).text
    assert said["heldout"] == {(c, s) for c in COLOURS for s in SHAPES if is_held_out(c, s)}
    assert len(said["heldout"]) == len(COLOURS) * len(SHAPES) / 4
    assert not said["train"] & said["heldout"]
    # every word of a held-out request is known from training
    assert {c for c, _ in said["heldout"]} <= {c for c, _ in said["train"]}


def test_each_text_is_read_aloud_once(reader):
    (one,) = [file for _, file in reader.requests("train", 1)]
    samples, rate = soundfile.read(one)
    assert (rate, len(samples)) == (16_000, 1600)
    again = reader.file(spoken_request("train", 0))
    assert again == one
    assert len(reader._decoder.said) == 1


def test_the_user_speaks_and_the_assistant_draws(reader, monkeypatch):
    for split, count in (("train", 3), ("heldout", 2)):
        list(reader.requests(split, count))
    source = SpokenRequests(train_size=3, val_size=2, folder=reader.folder)
    dialogues = source.read("train")
    assert (len(dialogues), len(source.read("val"))) == (3, 2)
    user, assistant = dialogues[0].messages
    assert [part.modality for part in user.parts] == [Modality.SPEECH]
    text, image = assistant.parts
    assert image.modality is Modality.IMAGE
    assert image.caption in text.text
    for written in (False, True):
        items = list(SpokenImages([JudgedRight()], count=2, written=written, folder=reader.folder).items())
        (part,) = items[0].messages[0]["content"]
        assert part["type"] == ("text" if written else "speech")
        assert items[0].expected[0][0] == "image"


def test_what_pretraining_writes_is_read_by_the_encoder(reader, tmp_path, monkeypatch):
    pytest.importorskip("jiwer")
    from nextgpt_pl.encoders import CtcEncoder
    from nextgpt_pl.pocket.pretrain import speech
    from nextgpt_pl.pocket.pretrain.loop import train

    for name, count in (("_TRAIN", 4), ("_HELD_OUT", 2)):
        monkeypatch.setattr(speech, name, count)
    monkeypatch.setattr(speech.Transcribing, "batch_size", 2)
    task = speech.Transcribing(steps=3, reader=reader)
    task.warmup = 0  # the average of the weights begins behind the warm-up
    before = task.head.weight.clone()
    train(task, tmp_path / "work")
    assert not torch.equal(task.head.weight, before)
    task.save(tmp_path / "speech")
    encoder = CtcEncoder(str(tmp_path / "speech"))
    encoder.load()
    assert encoder.vocabulary() == task.words
    assert torch.equal(encoder.head.weight, task.head.weight)
    quality = speech.speech_quality(tmp_path / "speech", reader)
    assert quality["items"] == 2
    assert quality["word_error_rate"] > 0  # a tone has no words, and nothing was learned
