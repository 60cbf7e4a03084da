import re

import numpy as np
import pytest

from nextgpt_pl.evaluation.gallery import dialogues
from nextgpt_pl.pipeline import AnyToAny
from nextgpt_pl.samples import ReplyPart


@pytest.fixture(autouse=True)
def _model(monkeypatch):
    class _Model:
        """Answers with words, a picture, and a sound."""

        def batch(self, conversations, **_):
            picture, sound = np.zeros((8, 8, 3), np.uint8), np.zeros(800, np.float32)
            reply = [ReplyPart("text", text="1 < 2"), ReplyPart("image", array=picture)]
            return [[*reply, ReplyPart("audio", array=sound, rate=16_000)] for _ in conversations]

    monkeypatch.setattr(AnyToAny, "from_run", lambda _run, **_: _Model())


def test_media_lie_beside_the_page(tmp_path):
    one, two = dialogues(tmp_path, tmp_path, ("image->text", "text->text"))
    assert "<h3>image-&gt;text</h3>" in one
    assert "<b>model:</b> 1 &lt; 2" in one
    sources = re.findall(r"src='([^']+)'", one + two)
    assert len(sources) == 5  # what is shown, and two media in each reply
    assert all((tmp_path / source).is_file() for source in sources)
    assert "<audio controls" in one


def test_or_inside_it(tmp_path):
    (section,) = dialogues(tmp_path, tmp_path, ("image->text",), inline=True)
    kinds = re.findall(r"src='data:([\w/-]+);base64,", section)
    assert kinds[:2] == ["image/png", "image/png"]
    assert kinds[2].startswith("audio/")
