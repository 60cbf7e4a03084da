"""One feature per recognised word, from a tiny random Whisper with a head that hears what it is told to."""

import numpy as np
import pytest
import tiny_towers
import torch

from nextgpt_pl.encoders import CtcEncoder, PretrainedEncoder
from nextgpt_pl.encoders.ctc import HEAD, WORDS, compressed, save_head
from nextgpt_pl.errors import UserError
from nextgpt_pl.modality import Modality
from nextgpt_pl.samples import Media

SPEECH = Modality.SPEECH
VOCABULARY = ["red", "ring", "star"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ctc")
    torch.manual_seed(0)
    tiny_towers.whisper(folder)
    save_head(torch.nn.Linear(16, 1 + len(VOCABULARY)), VOCABULARY, folder)
    return str(folder)


def _sound(seed=0):
    samples = np.random.default_rng(seed).normal(0, 0.1, 16_000).astype(np.float32)
    return Media(SPEECH, lambda: samples, 16_000)


def test_runs_of_a_class_are_averaged_in_order_and_blanks_are_left_out():
    states = torch.arange(12.0).view(1, 6, 2)
    found = compressed(states, torch.tensor([[0, 2, 2, 0, 2, 1]]), 4)
    assert found.tolist() == [[[3.0, 4.0], [8.0, 9.0], [10.0, 11.0], [0.0, 0.0]]]
    assert torch.equal(compressed(states, torch.tensor([[0, 2, 2, 0, 2, 1]]), 2), found[:, :2])
    assert not compressed(states, torch.zeros(1, 6, dtype=torch.long), 3).any()


def test_features_are_those_of_the_tower_by_word(folder):
    encoder = CtcEncoder(folder, words=9)
    media = [_sound(0), _sound(1)]
    found = encoder.features(SPEECH, media, "cpu")
    assert found.shape == (2, 9, 16)
    assert (encoder.modalities, encoder.tokens(SPEECH), encoder.width(SPEECH)) == ((SPEECH,), 9, 16)
    states = PretrainedEncoder(folder, ["speech"], "patches").features(SPEECH, media, "cpu")
    classes = encoder.head(states).argmax(-1)
    assert torch.equal(found, compressed(states, classes, 9))
    words = CtcEncoder(folder, words=9, embed="words").features(SPEECH, media, "cpu")
    assert torch.equal(words, compressed(encoder.head.weight[classes], classes, 9))
    heard = encoder.transcripts(torch.stack([encoder.prepare(medium) for medium in media]))
    runs = [[int(c) for c in torch.unique_consecutive(row) if c] for row in classes]
    assert heard == [" ".join(VOCABULARY[c - 1] for c in row) for row in runs]
    assert any(heard)


def test_the_key_of_features_depends_on_head_and_number_of_words(folder):
    own = CtcEncoder(folder, words=9).producer(SPEECH)
    assert own != CtcEncoder(folder, words=8).producer(SPEECH)
    assert own != CtcEncoder(folder, words=9, embed="words").producer(SPEECH)


def test_sizes_are_known_without_weights(folder):
    with torch.device("meta"):
        encoder = CtcEncoder(folder)
        encoder.load()
    assert encoder.head.weight.is_meta
    assert encoder.head.out_features == 4


def test_files_that_do_not_fit_are_named(tmp_path):
    torch.manual_seed(0)
    tiny_towers.whisper(tmp_path)
    with pytest.raises(UserError, match=f"no readable {WORDS} there"):
        CtcEncoder(str(tmp_path)).load()
    save_head(torch.nn.Linear(8, 4), VOCABULARY, tmp_path)
    with pytest.raises(UserError, match=f"{HEAD} does not fit"):
        CtcEncoder(str(tmp_path)).load()
    (tmp_path / WORDS).write_text('{"a": 1}')
    with pytest.raises(UserError, match="a list of words is expected"):
        CtcEncoder(str(tmp_path)).vocabulary()
    with pytest.raises(UserError, match=r"encoder\.words=0"):
        CtcEncoder(str(tmp_path), words=0)
    with pytest.raises(UserError, match=r"encoder\.embed='mean': one of states, words"):
        CtcEncoder(str(tmp_path), embed="mean")
