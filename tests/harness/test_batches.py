import json
import logging
from types import SimpleNamespace

import numpy as np
import pytest

from nextgpt_pl.errors import UserError
from nextgpt_pl.harness.batches import Request, Responder
from nextgpt_pl.modality import Modality
from nextgpt_pl.samples import ReplyPart


class _Model:
    """Stands for a model: repeats the question and the media's seed, and refuses ``damaged``."""

    def __init__(self):
        self.calls, self.network = [], SimpleNamespace(decoders={Modality.IMAGE: None})

    def batch(self, chats, *, seeds, seed, **decoding):
        self.calls.append((len(chats), decoding))
        texts = [chat[-1]["content"][-1]["text"] for chat in chats]
        if "damaged" in texts:
            raise UserError("the image is damaged")
        drawn = [ReplyPart("image", array=np.zeros((4, 4, 3), np.uint8))] if decoding["modalities"] else []
        return [[ReplyPart("text", text=f"{t} {s}"), *drawn] for t, s in zip(texts, seeds, strict=True)]


def _request(number, text, repeat=0, **options):
    messages = [{"role": "user", "content": [{"type": "text", "text": text}]}]
    return Request("toy", number, repeat, lambda: messages, options)


def _answers(model, requests, **arguments):
    found = dict(Responder(model, 2, **arguments).answers(requests, silent=True))
    return [found[position] for position in range(len(requests))]


def test_requests_with_equal_options_are_answered_together_and_in_order():
    model = _Model()
    requests = [_request(n, f"q{n}", max_new_tokens=8 if n % 2 else 16) for n in range(5)]
    assert _answers(model, requests, seed=3) == [f"q{n} {3 + 10 * n}" for n in range(5)]
    assert [(count, decoding["max_new_tokens"]) for count, decoding in model.calls] == [(2, 16), (1, 16), (2, 8)]


def test_repeats_of_a_document_have_other_seeds():
    assert _answers(_Model(), [_request(1, "q"), _request(1, "q", repeat=1)]) == ["q 10", "q 10000010"]


def test_a_request_that_cannot_be_read_does_not_stop_the_others(caplog):
    requests = [_request(0, "a"), _request(1, "damaged"), _request(2, "b")]
    with caplog.at_level(logging.ERROR):
        assert _answers(_Model(), requests) == ["a 0", "", "b 20"]
    assert "1 of 3 requests have an empty answer, such as toy, document 1: the image is damaged" in caplog.text


def test_media_are_files_where_a_task_asks_for_them(tmp_path):
    requests = [_request(0, "a", modalities=["image"]), _request(1, "b", modalities="text"), _request(2, "c")]
    drawn, plain, free = _answers(_Model(), requests, output_dir=tmp_path)
    assert json.loads(drawn) == {"text": "a 0", "images": [str(tmp_path / "toy_0_0.png")]}
    assert (plain, free) == ("b 10", "c 20")
    assert _answers(_Model(), requests[:1]) == ["a 0 <image>"]


def test_wrong_options_stop_before_the_first_batch():
    model = _Model()
    with pytest.raises(UserError, match="max_new_tokens=0"):
        _answers(model, [_request(0, "a"), _request(1, "b", max_new_tokens=0)])
    with pytest.raises(UserError, match="no decoder makes 'video'"):
        _answers(model, [_request(0, "a")], modalities=["video"])
    assert not model.calls


def test_what_has_no_counterpart_is_warned_about_once(caplog):
    with caplog.at_level(logging.WARNING):
        _answers(_Model(), [_request(n, "a", num_beams=2, max_new_tokens=8 + n) for n in range(3)])
    assert caplog.text.count("num_beams=2 has no counterpart") == 1
