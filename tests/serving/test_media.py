"""Routes that generate images, videos and sounds, by OpenAI's client where it has them."""

import base64
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import openai
import pytest
from served import NAME, TEXT, ToldModel, served, until

from nextgpt_pl.media.reading import as_array
from nextgpt_pl.modality import DECODABLE, Modality
from nextgpt_pl.serving.options import ServerOptions

PROMPT = "A red circle."


@pytest.fixture(scope="module")
def address(model):
    with served(model, ServerOptions(max_tokens=12)) as url:
        yield url


@pytest.fixture
def client(address):
    with openai.OpenAI(base_url=address, api_key="none", max_retries=0) as client:
        yield client


def _expected(model, modality, seed):
    """Array and rate of the medium that the pipeline makes."""
    reply = model([{"role": "user", "content": PROMPT}], modalities=[modality], max_new_tokens=12, seed=seed)
    return next(part for part in reply if part.type == modality)


def _array(text, modality):
    return as_array(base64.b64decode(text), Modality(modality))[0]


def test_images_have_the_prompt_and_the_seeds_of_the_pipeline(client, model):
    answer = client.images.generate(model=NAME, prompt=PROMPT, n=2, response_format="b64_json", extra_body={"seed": 3})
    arrays = [_array(image.b64_json, "image") for image in answer.data]
    for seed, array in zip((3, 4), arrays, strict=True):
        assert np.abs(array.astype(int) - _expected(model, "image", seed).array).max() <= 1
    assert np.abs(arrays[0].astype(int) - arrays[1]).max() > 1
    assert answer.created > 1.7e9


def test_videos_are_files(client, model):
    answer = client.post("/videos", body={"prompt": PROMPT, "seed": 3, "n": 2}, cast_to=object)
    (expected, other) = (_expected(model, "video", seed) for seed in (3, 4))
    for part, item in zip((expected, other), answer["data"], strict=True):
        data = base64.b64decode(item["b64_json"])
        assert data[4:8] == b"ftyp"
        video = as_array(data, Modality.VIDEO)
        assert len(video[0]) == len(part.array)
        assert video[1] == part.rate


def test_sounds_are_bytes_of_the_asked_format(client, model):
    answer = client.audio.speech.create(model=NAME, voice="none", input=PROMPT, extra_body={"seed": 3})
    assert answer.response.headers["content-type"] == "audio/wav"
    array, rate = as_array(answer.content, Modality.AUDIO)
    expected = _expected(model, "audio", 3)
    assert rate == expected.rate
    assert np.abs(array - expected.array).max() < 1e-3
    flac = client.audio.speech.create(model=NAME, voice="x", input=PROMPT, response_format="flac")
    assert flac.content[:4] == b"fLaC"
    mp3 = client.audio.speech.create(model=NAME, voice="x", input=PROMPT, response_format="mp3")
    assert as_array(mp3.content, Modality.AUDIO)[1] == expected.rate


def test_without_a_seed_media_differ(client):
    first, second = (client.images.generate(model=NAME, prompt=PROMPT).data[0].b64_json for _ in range(2))
    assert first != second


def test_the_last_seed_is_followed_by_the_first(client):
    answer = client.images.generate(model=NAME, prompt=PROMPT, n=2, extra_body={"seed": 2**62 - 1})
    first = client.images.generate(model=NAME, prompt=PROMPT, extra_body={"seed": 0})
    ours, theirs = (_array(item.b64_json, "image").astype(int) for item in (answer.data[1], first.data[0]))
    assert np.abs(ours - theirs).max() <= 1


@pytest.mark.parametrize(
    ("options", "message", "param"),
    [
        ({"prompt": "red " * 3000}, "context", "prompt"),
        ({"prompt": ""}, "prompt: .*at least 1 character", "prompt"),
        ({"prompt": "x" * 32_001}, "prompt: .*at most 32000 characters", "prompt"),
        ({"n": 11}, "n: .*less than or equal to 10; got 11", "n"),
        ({"response_format": "url"}, "response_format: .*'b64_json'; got 'url'", "response_format"),
        ({"size": "256x256"}, "size: this server does not support the field", "size"),
    ],
)
def test_bad_requests_say_what_is_wrong(client, options, message, param):
    with pytest.raises(openai.BadRequestError, match=message) as raised:
        client.images.generate(**{"model": NAME, "prompt": PROMPT, **options})
    assert raised.value.param == param


def test_unknown_models_and_media_without_decoder_are_refused(client, model, monkeypatch):
    with pytest.raises(openai.NotFoundError, match="no model 'other'"):
        client.images.generate(model="other", prompt=PROMPT)
    decoders = {m: decoder for m, decoder in model.network.decoders.items() if m is not Modality.VIDEO}
    monkeypatch.setattr(model.network, "decoders", decoders)
    with pytest.raises(openai.BadRequestError, match="no decoder makes 'video'; there are image, audio"):
        client.post("/videos", body={"prompt": PROMPT}, cast_to=object)


@pytest.fixture
def told():
    return ToldModel()


def _generate(address, path, **body):
    return httpx.post(f"{address}/{path}", json={"prompt": PROMPT, **body}, timeout=20)


def test_a_reply_without_the_medium_is_an_error_that_says_what_the_model_wrote(told):
    told.go.set()
    with served(told) as address:
        video = _generate(address, "videos")
        sound = httpx.post(f"{address}/audio/speech", json={"input": PROMPT})
        image = _generate(address, "images/generations")
    assert image.status_code == 200
    for response, medium in ((video, "video"), (sound, "audio")):
        assert response.status_code == 422
        error = response.json()["error"]
        assert error["message"] == f"the model has replied without {medium}: '{''.join(TEXT)} (image)'"
        assert error["code"] == "no_medium"
    assert [options["modalities"] for _, options in told.asked] == [["video"], ["audio"], ["image"]]


def test_all_media_of_a_request_are_in_one_batch_and_take_their_places_in_the_queue(told):
    with served(told, ServerOptions(queue=3)) as address, ThreadPoolExecutor(2) as pool:
        assert _generate(address, "images/generations", n=4).json()["error"]["message"].startswith("n=4: at most 3")
        first = pool.submit(_generate, address, "images/generations", n=2, seed=7)
        until(lambda: told.batches)
        refused = _generate(address, "videos", n=2)
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "queue_full")
        assert int(refused.headers["retry-after"]) >= 1
        last = pool.submit(_generate, address, "images/generations")
        until(lambda: "nextgpt_requests_in_work 3.0" in httpx.get(address.replace("/v1", "/metrics")).text)
        told.go.set()
        assert len(first.result().json()["data"]) == 2
        assert len(last.result().json()["data"]) == 1
        text = httpx.get(address.replace("/v1", "/metrics")).text
        assert "nextgpt_requests_in_work 0.0" in text
        assert 'nextgpt_media_total{modality="image"} 3.0' in text
    assert told.batches == [2, 1]
    assert told.asked[0][1]["seeds"] == [7, 8]


@pytest.mark.parametrize("path", ["images/generations", "videos"])
def test_a_client_that_leaves_stops_its_media(told, path):
    with served(told) as address:
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{address}/{path}", json={"prompt": PROMPT, "n": 2}, timeout=httpx.Timeout(5, read=0.3))
        until(lambda: told.stopped == 1)
        until(lambda: "nextgpt_requests_in_work 0.0" in httpx.get(address.replace("/v1", "/metrics")).text)


def test_every_generated_modality_has_a_route(told):
    with served(told) as address:
        paths = httpx.get(address.replace("/v1", "/openapi.json")).json()["paths"]
    assert {"/v1/images/generations", "/v1/videos", "/v1/audio/speech"} <= paths.keys()
    assert len([path for path in paths if "post" in paths[path]]) == 1 + len(DECODABLE)
