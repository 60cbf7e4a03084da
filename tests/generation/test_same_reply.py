"""Processes whose weights are sharded go on from one reply, whatever each has computed."""

import pytest
import torch

from nextgpt_pl import pipeline
from nextgpt_pl.generation.decoding import Decoding
from nextgpt_pl.generation.generate import Generated
from nextgpt_pl.pipeline import AnyToAny


@pytest.mark.parametrize("collective", [True, False])
def test_sharded_processes_take_over_the_first_ones_reply(network, monkeypatch, collective):
    network.load()
    monkeypatch.setattr(network.llm, "collective", collective)
    own, first = ([Generated(ids, torch.empty(0, 8))] for ids in ([5, 6], [7]))
    monkeypatch.setattr(pipeline, "generate", lambda *_: own)
    monkeypatch.setattr(pipeline, "broadcast_object", lambda replies: first)
    (row,) = AnyToAny(network).write([[{"role": "user", "content": "Hi."}]], Decoding())
    assert row.input_ids[-1] == (7 if collective else 6)
