import re

import pytest
import torch

from nextgpt_pl.demo.captions import NearestCaptions, captions_of, pocket_captions
from nextgpt_pl.demo.pane import pane_html
from nextgpt_pl.errors import UserError
from nextgpt_pl.generation.records import Choice, SpanRecord, TokenRecord
from nextgpt_pl.modality import GENERATED, Modality


class _Network:
    """Embeds captions by their numbers."""

    calls = 0

    def caption_embeddings(self, modality, captions):
        self.calls += 1
        return torch.tensor([[10.0 + float(a), 10.0 + float(b)] for a, b in (c.split() for c in captions)])[:, None]


def test_nearest_captions_are_those_of_the_same_direction_from_the_mean():
    network = _Network()
    nearest = NearestCaptions(network, {Modality.IMAGE: ["1 0", "0 1", "-1 0", "0 -1"]})
    found = nearest(Modality.IMAGE, torch.tensor([[10.0, 12.0]]), 3)
    assert found[0] == ("0 1", pytest.approx(1))
    assert {caption for caption, _ in found[1:]} == {"1 0", "-1 0"}
    assert [similarity for _, similarity in found[1:]] == pytest.approx([0, 0], abs=1e-6)
    nearest(Modality.IMAGE, torch.tensor([[10.0, 12.0]]), 3)
    assert network.calls == 1


def test_the_pane_has_every_token_once_and_a_section_per_medium():
    choice = Choice(0.25, 1.0, ((7, 0.75), (9, 0.25)))
    first = TokenRecord("[IMG0]", Modality.IMAGE, True, choice, (("<end>", 0.75), ("[IMG0]", 0.25)))
    records = [
        TokenRecord("<b>", None, False, choice, (("x", 0.5),)),
        first,
        TokenRecord("[IMG1]", Modality.IMAGE),
        SpanRecord(Modality.IMAGE, torch.tensor([[10.0, 12.0]])),
        first,
    ]
    nearest = NearestCaptions(_Network(), {Modality.IMAGE: ["1 0", "0 1", "-1 0"]})
    html = pane_html(records, nearest)
    assert "<b>" not in html
    assert html.count("&lt;b&gt;") == 1
    assert re.findall(r'class="token signal image" title="([^"]*)"', html)[:2] == [
        "25.0% of the LLM, 100.0% with constraints",
        "added to complete the reply",
    ]
    assert html.count("<h4>") == 2
    assert html.count("nearest captions") == 1  # the second one is not embedded yet
    assert re.search(r"<code>&lt;end&gt;</code>.*?75\.0%", html, re.DOTALL)
    assert re.search(r"<td>0 1</td><td[^>]*>1\.000</td>", html)
    assert pane_html([]) == ""


def test_captions_come_from_the_pocket_world_or_from_a_file(tmp_path):
    captions = pocket_captions()
    assert set(captions) == set(GENERATED)
    assert all(len(set(c)) == len(c) > 50 for c in captions.values())
    file = tmp_path / "c.txt"
    file.write_text("a cat\n\n a dog \na cat\n")
    assert captions_of(file)[Modality.AUDIO] == ["a cat", "a dog"]
    for content, message in [
        (b"one\none\n", "1 captions, 2 to 2,000"),
        (b"\xff\xfe\n", "UTF-8"),
        (b"x\n" * 2**20, "bytes"),
    ]:
        file.write_bytes(content)
        with pytest.raises(UserError, match=message):
            captions_of(file)
