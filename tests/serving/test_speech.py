"""Replies with speech over HTTP: a tiny random voice speaks the words that the LLM writes."""

import base64

import httpx
import numpy as np
import openai
import pytest
import torch
from served import NAME, served
from speech_parts import save_vits

from nextgpt_pl.decoders import VitsDecoder
from nextgpt_pl.llm import CausalLM
from nextgpt_pl.media.reading import as_array
from nextgpt_pl.modality import Modality
from nextgpt_pl.model import NextGPT
from nextgpt_pl.pipeline import AnyToAny
from nextgpt_pl.serving.options import ServerOptions

PROMPT = "Say that it is red."
TURN = {"role": "user", "content": PROMPT}
LIMIT = {"max_new_tokens": 40}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model that makes speech and nothing else."""
    voice = VitsDecoder(str(save_vits(tmp_path_factory.mktemp("voice"))), max_tokens=6)
    torch.manual_seed(0)
    network = NextGPT(CausalLM("pocket:llm"), {"speech": voice})
    network.load()
    return AnyToAny(network)


@pytest.fixture(scope="module")
def address(model):
    with served(model, ServerOptions(max_tokens=40)) as url:
        yield url


def _expected(model, seed):
    (part,) = [p for p in model([TURN], modalities=["speech"], seed=seed, **LIMIT) if p.type == "speech"]
    assert part.caption
    assert part.array.std() > 0
    return part


def _same(data, part):
    array, rate = as_array(data, Modality.SPEECH)
    assert rate == part.rate
    assert np.abs(array - part.array).max() < 1e-3


def test_the_route_of_speech_has_the_sound_and_its_words(address, model):
    response = httpx.post(f"{address}/speech", json={"prompt": PROMPT, "seed": 3, "n": 2}, timeout=60)
    assert response.status_code == 200, response.text
    for seed, item in zip((3, 4), response.json()["data"], strict=True):
        expected = _expected(model, seed)
        _same(base64.b64decode(item["b64_json"]), expected)
        assert item["revised_prompt"] == expected.caption


def test_the_route_of_sounds_speaks_if_the_model_makes_no_other_sound(address, model):
    with openai.OpenAI(base_url=address, api_key="none", max_retries=0) as client:
        answer = client.audio.speech.create(model=NAME, voice="none", input=PROMPT, extra_body={"seed": 3})
    assert answer.response.headers["content-type"] == "audio/wav"
    _same(answer.content, _expected(model, 3))


def test_a_chat_answers_with_speech_that_a_later_message_may_have(address, model):
    asked = {"modalities": ["text", "speech"], "seed": 3}
    reply = httpx.post(f"{address}/chat/completions", json={"messages": [TURN], **asked}, timeout=60).json()
    message = reply["choices"][0]["message"]
    (part,) = [part for part in message["content"] if part["type"] == "input_speech"]
    expected = _expected(model, 3)
    assert part["caption"] == expected.caption
    _same(base64.b64decode(part["input_speech"]["data"]), expected)
    again = httpx.post(f"{address}/chat/completions", json={"messages": [TURN, message, TURN], **asked}, timeout=60)
    assert again.status_code == 200
    assert any(part["type"] == "input_speech" for part in again.json()["choices"][0]["message"]["content"])
