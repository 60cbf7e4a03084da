"""What the decoder is given after the official code has written a reply."""

import json

import pytest
import torch
from golden_official import assert_golden
from safetensors.torch import load_file

from nextgpt_pl.adapter import load_adapter
from nextgpt_pl.batches import Rendered
from nextgpt_pl.dialogue.batching import pad
from nextgpt_pl.dialogue.signal_spans import find_spans
from nextgpt_pl.generation.signals import Written, caption_embeddings

from .conftest import SHAPES

CLOSE = {"rtol": 1e-5, "atol": 2e-5}


@pytest.mark.parametrize("medium", ["image", "video", "audio"])
def test_generation_states(official, legacy_network, legacy_adapter, medium):
    folder = official / "legacy_stage2_loss"
    numbers = load_file(folder / "generation_io.safetensors")
    expected = json.loads((folder / "generation_expected.json").read_text())[medium]
    network = legacy_network
    network.load()
    load_adapter(legacy_adapter(2), network)
    network.eval()
    table = torch.cat([network.llm.word_embeddings(), network.llm.model.get_input_embeddings().rows])
    prompt = torch.cdist(numbers[f"{medium}.prompt_embeds"][0], table).argmin(1).tolist()
    torch.testing.assert_close(table[prompt], numbers[f"{medium}.prompt_embeds"][0], atol=0, rtol=0)
    # the first id was put there by the library; the states end one place before the last id
    written = expected["sequence"][1:]
    spans = find_spans(written, network.span_ids(), len(prompt))
    row = Rendered([*prompt, *written], [-100] * len(prompt) + written, spans=tuple(spans[:1]))
    batch = pad([row], 0)
    with torch.no_grad():
        hidden = network.hidden_states(batch, network.embed(batch))[0, len(prompt) :]
    states = numbers[f"{medium}.hidden_last_layer"][0]
    torch.testing.assert_close(hidden[: len(states)], states, **CLOSE)
    firsts = [i - 1 for i in expected["first_signal_index"]]
    if not firsts:
        assert not spans
        return
    assert spans[0].start - len(prompt) == firsts[0]
    raw = numbers[f"{medium}.raw_signal_states"][0]
    torch.testing.assert_close(hidden[firsts[0] : firsts[0] + len(raw)], raw, **CLOSE)
    (embedding,) = caption_embeddings(network, [Written(row)])[0]
    assert_golden(embedding.reshape(1, -1, SHAPES["legacy"][medium][-1]), numbers, f"{medium}.condition", **CLOSE)
