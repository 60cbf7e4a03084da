"""Rows that the LLM cannot read are refused before any weights are read."""

import pytest
from lightning.pytorch import Trainer

from nextgpt_pl.datamodules import CaptionedPairs, PocketWorld
from nextgpt_pl.errors import UserError
from nextgpt_pl.stages import DecoderAlignment


def test_a_max_length_beyond_the_context_is_refused_before_weights_are_read(network, tmp_path, monkeypatch):
    monkeypatch.setattr(type(network), "load", lambda _: pytest.fail("weights are read"))
    data = CaptionedPairs([PocketWorld()], max_length=100_000)
    options = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = Trainer(default_root_dir=tmp_path, accelerator="cpu", max_steps=1, **options)
    with pytest.raises(UserError, match=r"data\.max_length=100000: the LLM's context is 512 tokens"):
        trainer.fit(DecoderAlignment(network), datamodule=data)


def test_it_is_refused_outside_of_a_trainer_too(network):
    data = CaptionedPairs([PocketWorld()], max_length=513).with_renderer(network.conversation())
    with pytest.raises(UserError, match=r"data\.max_length=513: the LLM's context is 512 tokens"):
        data.rows("val")
    data.max_length = 512
    assert len(data.rows("val"))


def test_a_data_module_with_a_renderer_is_one_of_its_own(network):
    data = CaptionedPairs([PocketWorld(4, 2)])
    both = [data.with_renderer(network.conversation(direction)) for direction in ("generation", "comprehension")]
    assert [len(one.items("val")) for one in both] == [6, 6]
    assert [one.conversation().direction for one in both] == ["generation", "comprehension"]
    assert not data._splits
