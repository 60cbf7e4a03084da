from random import Random

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from nextgpt_pl.modality import GENERATED, Modality
from nextgpt_pl.pocket.pretrain.captions import all_statements, pooled_statements
from nextgpt_pl.pocket.pretrain.encoder import Contrastive
from nextgpt_pl.pocket.pretrain.pictures import TWO_OBJECTS, draw_picture
from nextgpt_pl.pocket.pretrain.reading import all_read, read_right, stated_rows
from nextgpt_pl.pocket.pretrain.sounds import draw_wider, is_wider
from nextgpt_pl.pocket.world.scenes import draw_scene, is_heldout
from nextgpt_pl.utils.paths import pocket_weights


@pytest.fixture
def task():
    torch.manual_seed(0)
    return Contrastive(PreTrainedTokenizerFast.from_pretrained(pocket_weights() / "encoder"), steps=10, seed=0)


def test_the_reader_knows_every_statement_once():
    rng = Random(0)
    names = all_statements()
    scenes = [draw_scene(m, rng) for m in GENERATED for _ in range(300)] + [draw_wider(rng) for _ in range(300)]
    said = {name for scene in scenes for name in pooled_statements(scene)}
    assert len(set(names)) == len(names)
    assert said <= set(names)
    # of the second object, only pictures with two say more than that there is none
    assert {name for name in set(names) - said if not name.startswith("1 ")} <= {"0 no object"}


def test_pictures_have_two_objects_more_often_than_the_world_and_none_is_held_out():
    scenes = [draw_picture(Random(i)) for i in range(400)]
    assert abs(sum(len(s.things) == 2 for s in scenes) / 400 - TWO_OBJECTS) < 0.08
    assert not any(is_heldout(scene) for scene in scenes)


def test_half_of_the_sounds_are_wider_and_train_without_captions(task):
    drawn = [task.draw(Modality.AUDIO, Random(i)) for i in range(200)]
    assert 70 < sum(is_wider(scene) for scene in drawn) < 130
    task.modalities, task.batch_size = (Modality.AUDIO,), 8
    task.loss(Random(1), torch.Generator()).backward()
    gradients = {name: p.grad is not None for name, p in task.named_parameters()}
    assert gradients["reader.weight"]
    for name, trained in gradients.items():
        if name.startswith("model."):
            assert trained == ("vision" not in name), name


def test_a_reader_that_is_right_costs_nothing(task):
    scenes = [draw_scene(Modality.IMAGE, Random(i)) for i in range(6)]
    media = torch.eye(6, task.model.config.out_dim)
    wrong = float(task._classification_loss(media, scenes).detach())
    with torch.no_grad():
        task.reader.bias.fill_(-20.0)
        task.reader.weight.zero_()
        for i, scene in enumerate(scenes):
            task.reader.weight[[task.statements.index(name) for name in pooled_statements(scene)], i] = 40.0
    assert float(task._classification_loss(media, scenes).detach()) < 1e-3 < wrong
    assert float(task._classification_loss(media.roll(1, 0), scenes).detach()) > wrong


def test_a_probe_reads_what_is_in_the_embedding_and_nothing_else():
    """Embeddings that add up a code per statement are read in full; without the codes of shapes, they are not."""
    names = all_statements()
    codes = torch.randn(len(names), 128, generator=torch.Generator().manual_seed(0))
    for modality in GENERATED:
        assert read_right(lambda scenes: stated_rows(scenes, names) @ codes, modality, 600, 100) > 0.99
    blind = codes * torch.tensor([[float("shape" not in name)] for name in names])
    assert read_right(lambda scenes: stated_rows(scenes, names) @ blind, Modality.VIDEO, 600, 100) < 0.5


def test_a_reading_is_right_where_every_attribute_is():
    names = ["0 shape ring", "0 shape star", "1 no object", "timbre square wave", "timbre sine"]
    true = torch.tensor([[1.0, 0, 1, 0, 0], [0, 1, 0, 0, 0], [0, 0, 0, 1, 0]])
    scores = torch.tensor([[0.4, 0.3, 0.9, 0.0, 0.9], [0.4, 0.3, 0.1, 0.0, 0.0], [9.0, 0.0, 0.1, 0.2, 0.1]])
    assert all_read(scores, true, names).tolist() == [True, False, True]
    assert not all_read(torch.tensor([[0.4, 0.3, 0.1, 0, 0]]), true[:1], names).any()
