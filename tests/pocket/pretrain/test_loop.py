import copy
from random import Random

import pytest
import torch

from nextgpt_pl.pocket.pretrain import loop


class _Line(loop.PretrainTask):
    """Fits a line; stops as if killed when told to."""

    stop_at = None

    def __init__(self, steps):
        super().__init__(steps=steps, lr=0.05, warmup=2)
        self.layer = torch.nn.Linear(2, 1)
        self.frozen = torch.nn.Linear(64, 64).requires_grad_(False)
        self.calls = 0

    def loss(self, rng: Random, generator: torch.Generator):
        self.calls += 1
        if self.calls == self.stop_at:
            raise RuntimeError("killed")
        x = torch.rand(4, 2, generator=generator)
        return (self.layer(x).squeeze(1) - x.sum(1) * rng.random()).square().mean()


def _trained(work, stop_at=None):
    torch.manual_seed(0)
    task = _Line(steps=9)
    task.stop_at = stop_at
    loop.train(task, work)
    return task


def test_an_interrupted_pretraining_ends_as_an_uninterrupted_one(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "_CHECKPOINT_EVERY", 3)
    whole = _trained(tmp_path / "whole")
    with pytest.raises(RuntimeError, match="killed"):
        _trained(tmp_path / "parts", stop_at=8)
    rest = _trained(tmp_path / "parts")
    assert rest.calls == 3
    assert torch.equal(whole.layer.weight, rest.layer.weight)
    assert (tmp_path / "parts" / loop.RECORD).is_file()


def test_the_average_leaves_frozen_weights_as_they_are_and_is_taken_of_the_others(tmp_path_factory):
    torch.manual_seed(0)
    averaged = _Line(steps=60)
    last = copy.deepcopy(averaged)
    frozen = averaged.frozen.weight.clone()
    loop.train(averaged, tmp_path_factory.mktemp("averaged"))
    loop.train(last, tmp_path_factory.mktemp("last"), ema_decay=0.0)
    assert torch.equal(averaged.frozen.weight, frozen)
    assert not torch.equal(averaged.layer.weight, last.layer.weight)


def test_a_finished_pretraining_is_not_repeated(tmp_path):
    first = _trained(tmp_path)
    again = _trained(tmp_path)
    assert again.calls == 0
    assert torch.equal(first.layer.weight, again.layer.weight)


def test_the_bar_of_a_continued_pretraining_shows_its_end(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(loop, "_CHECKPOINT_EVERY", 3)
    with pytest.raises(RuntimeError, match="killed"):
        _trained(tmp_path, stop_at=8)
    capsys.readouterr()
    _trained(tmp_path)
    shown = capsys.readouterr().out
    assert "| 9/9 [" in shown
    assert "6/9 [" in shown
