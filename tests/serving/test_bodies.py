"""Bodies of requests: bounded, strict JSON, and read in threads when they are large."""

import json
import re
import threading

import httpx
import pytest
from served import ToldModel, served

from nextgpt_pl.serving import bodies


@pytest.fixture
def model():
    model = ToldModel()
    model.go.set()
    return model


@pytest.fixture
def post(model):
    with served(model) as address:
        yield lambda data: httpx.post(
            f"{address}/chat/completions", content=data, headers={"content-type": "application/json"}, timeout=20
        )


def _chat(text, **more):
    return json.dumps({"messages": [{"role": "user", "content": text}], **more}).encode()


def test_large_bodies_are_read_in_a_thread(post, monkeypatch):
    names, parsed = [], bodies._parsed
    monkeypatch.setattr(bodies, "_parsed", lambda data: names.append(threading.current_thread().name) or parsed(data))
    for size in (10, 2**20):
        assert post(_chat("x" * size)).status_code == 200
    assert not names[0].startswith("nextgpt_pl reader")
    assert names[1].startswith("nextgpt_pl reader")


NUMBERS = _chat("Hi", temperature=1).replace(b"1}", b"%s}")


@pytest.mark.parametrize(
    ("data", "code", "message"),
    [
        (_chat([{"type": "text", "text": "x"}] * 100_001), "request_too_complex", "at most 100,000 are read"),
        (b"[" * 70_000, "invalid_json", "recursion limit"),
        (b"[" * 20_000_000, "request_too_complex", "20,000,000 commas and opening brackets"),
        (b'{"messages": ', "invalid_json", "the body is not valid JSON: EOF"),
        (NUMBERS % b"NaN", "invalid_json", "not valid JSON"),
        (NUMBERS % (b"9" * 5000), "invalid_json", "out of range"),
        (_chat("\ud800"), "invalid_json", "not valid JSON"),
        (b"\xff", "invalid_json", "not valid JSON"),
    ],
)
def test_bodies_that_are_not_read_say_why(post, data, code, message):
    response = post(data)
    assert response.status_code == 400
    error = response.json()["error"]
    assert error["code"] == code
    assert re.search(message, error["message"])
