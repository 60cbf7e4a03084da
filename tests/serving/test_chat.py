"""Chats with a tiny model by OpenAI's own client."""

import base64
import io
import json

import httpx
import numpy as np
import openai
import pytest
from PIL import Image
from served import NAME, served

from nextgpt_pl.media.reading import as_array
from nextgpt_pl.modality import GENERATED, Modality
from nextgpt_pl.serving.content import content_part, file_of
from nextgpt_pl.serving.options import ServerOptions

MEDIA = [m.value for m in GENERATED]


@pytest.fixture(scope="module")
def address(model):
    with served(model, ServerOptions(max_media=3, max_body_mb=1, max_tokens=64)) as url:
        yield url


@pytest.fixture(scope="module")
def ask(address):
    with openai.OpenAI(base_url=address, api_key="none", max_retries=0) as client:

        def ask(content, **options):
            messages = content if isinstance(content, list) and "role" in content[0] else [_user(content)]
            extra = {"seed": 1, "max_tokens": 12, **options}
            return client.chat.completions.create(model=NAME, messages=messages, **extra)

        yield ask


def _user(content):
    return {"role": "user", "content": content}


def _picture(color="red"):
    file = io.BytesIO()
    Image.new("RGB", (32, 32), color).save(file, "PNG")
    url = "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
    return {"type": "image_url", "image_url": {"url": url}}


def _array(part):
    """Modality and array of a part of a response."""
    kind = part["type"].removesuffix("_url").removeprefix("input_")
    text = part[part["type"]]["data"] if kind == "audio" else part[part["type"]]["url"].partition(",")[2]
    return kind, as_array(base64.b64decode(text), Modality(kind))[0]


def test_a_chat_of_text_is_a_string_with_its_counts(ask, model):
    answer = ask("Hello!", modalities=["text"])
    (expected,) = model([_user("Hello!")], modalities=[], max_new_tokens=12)
    choice = answer.choices[0]
    assert (choice.message.role, choice.message.content) == ("assistant", expected.text)
    assert answer.usage.prompt_tokens == len(model.prompt([_user("Hello!")], 12).input_ids)
    assert answer.usage.completion_tokens == 12
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 12
    assert choice.finish_reason == "length"
    assert (answer.model, answer.object) == (NAME, "chat.completion")


def test_a_reply_of_all_media_is_a_list_of_parts_in_order_that_later_messages_take(ask, model):
    answer = ask("Hello!", modalities=["text", *MEDIA])
    parts = answer.choices[0].message.content
    expected = model([_user("Hello!")], modalities=MEDIA, max_new_tokens=12, seed=1)
    assert [part["type"] for part in parts] == [content_part(part)["type"] for part in expected]
    for part, whole in zip(parts, expected, strict=True):
        if part["type"] == "text":
            assert part["text"] == whole.text
            continue
        kind, array = _array(part)
        assert kind == whole.type
        if kind == "image":
            assert np.abs(array.astype(int) - whole.array).max() <= 1
        elif kind == "audio":
            assert np.abs(array - whole.array).max() < 1e-3
    again = ask([_user("Hello!"), {"role": "assistant", "content": parts}, _user("More.")], modalities=["text"])
    assert again.usage.prompt_tokens > answer.usage.total_tokens - 1


def test_media_that_are_shown_change_the_reply(ask, model):
    replies = [
        ask([_picture(color), {"type": "text", "text": "What is it?"}], modalities=["text"]).choices[0].message.content
        for color in ("red", "blue", "red")
    ]
    assert replies[0] == replies[2]
    shown = [
        _user([{"type": "image", "image": Image.new("RGB", (32, 32), "red")}, {"type": "text", "text": "What is it?"}])
    ]
    (expected,) = model(shown, modalities=[], max_new_tokens=12)
    assert replies[0] == expected.text


def test_sounds_and_videos_are_shown(ask, model):
    sound, video = model([_user("Hello!")], modalities=["audio", "video"], max_new_tokens=1)[-2:]
    answer = ask([content_part(sound), content_part(video), {"type": "text", "text": "?"}], modalities=["text"])
    assert answer.usage.prompt_tokens > 4
    assert file_of(sound, ".flac")[:4] == b"fLaC"
    mp3 = base64.b64encode(file_of(sound, ".mp3")).decode()
    ask([{"type": "input_audio", "input_audio": {"data": mp3, "format": "mp3"}}], modalities=["text"])


def test_a_stream_has_text_before_the_medium_and_is_the_whole_reply(ask):
    options = {"modalities": ["text", "image"], "max_tokens": 20}
    events = list(ask("Hello!", stream=True, stream_options={"include_usage": True}, **options))
    whole = ask("Hello!", **options)
    assert events[0].choices[0].delta.role == "assistant"
    deltas = [event.choices[0].delta for event in events if event.choices]
    kinds = ["text" if delta.content else "part" for delta in deltas if delta.content or getattr(delta, "parts", None)]
    assert kinds.count("text") > 3
    assert "part" not in kinds[: kinds.count("text")]
    text, image = whole.choices[0].message.content
    assert "".join(delta.content or "" for delta in deltas) == text["text"]
    (part,) = next(delta.parts for delta in deltas if getattr(delta, "parts", None))
    assert np.abs(_array(part)[1].astype(int) - _array(image)[1]).max() <= 1
    assert events[-2].choices[0].finish_reason == whole.choices[0].finish_reason
    assert events[-1].usage == whole.usage


def test_a_stream_ends_with_done(address):
    body = {"messages": [_user("Hello!")], "modalities": ["text"], "max_tokens": 2, "stream": True}
    response = httpx.post(f"{address}/chat/completions", json=body)
    assert response.headers["content-type"].startswith("text/event-stream")
    lines = [line.removeprefix("data: ") for line in response.text.split("\n\n") if line]
    assert lines[-1] == "[DONE]"
    assert [json.loads(line)["object"] for line in lines[:-1]] == ["chat.completion.chunk"] * (len(lines) - 1)


def test_sampling_follows_its_seed(ask):
    options = {"modalities": ["text"], "temperature": 2.0}
    one, same, other = (ask("Hello!", **options, seed=s).choices[0].message.content for s in (3, 3, 4))
    assert one == same != other


BROKEN = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
LOCAL = {"type": "image_url", "image_url": {"url": "/etc/hostname"}}
FILE = {"type": "image_url", "image_url": {"url": "file:///etc/hostname"}}
REMOTE = {"type": "image_url", "image_url": {"url": "http://169.254.169.254/x.png"}}


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        ([BROKEN], {}, r"message 0, part 0: .*image"),
        ([LOCAL], {}, "files are not read here"),
        ([FILE], {}, "files are not read here"),
        ([REMOTE], {}, "not fetched"),
        ([{"type": "picture", "picture": "x"}], {}, "'picture' is not read"),
        ([_picture()] * 4, {}, "4 media, at most 3"),
        ("Hi", {"max_tokens": 65}, "max_tokens=65: at most 64"),
        ("Hi", {"max_tokens": 0}, "max_tokens: .*greater than or equal to 1; got 0"),
        ("Hi", {"temperature": -1}, "temperature"),
        ("Hi", {"modalities": ["smell"]}, "modalities.0: .*; got 'smell'"),
        ("Hi", {"tools": []}, "tools: this server does not support the field"),
        ("Hi", {"n": 2}, r"n: .*1; got 2"),
        ([{"role": "assistant", "content": "x"}], {}, "end with one of the user"),
    ],
)
def test_bad_requests_say_what_is_wrong(ask, content, options, message):
    with pytest.raises(openai.BadRequestError, match=message) as raised:
        ask(content, **options)
    assert raised.value.type == "invalid_request_error"


def test_a_conversation_above_the_context_is_refused(ask, model, monkeypatch):
    monkeypatch.setattr(model.conversation, "context_length", 40)
    with pytest.raises(openai.BadRequestError, match="context") as raised:
        ask("red " * 60)
    assert raised.value.code == "context_length_exceeded"
    talk = [_user("red " * 30), {"role": "assistant", "content": "ok"}, _user("Hi")]
    with pytest.raises(openai.BadRequestError, match="leave out its 2 oldest") as raised:
        ask(talk)
    assert raised.value.code == "context_length_exceeded"


def test_large_bodies_are_refused_with_and_without_their_length(address):
    data = b"x" * 1_200_000
    for content in (data, iter([data])):
        response = httpx.post(f"{address}/chat/completions", content=content)
        assert response.status_code == 413
        assert response.json()["error"]["code"] == "request_too_large"


def test_models_and_unknown_ones(address):
    with openai.OpenAI(base_url=address, api_key="none", max_retries=0) as client:
        assert [model.id for model in client.models.list()] == [NAME]
        assert client.models.retrieve(NAME).id == NAME
        with pytest.raises(openai.NotFoundError):
            client.models.retrieve("other")
        with pytest.raises(openai.NotFoundError, match="no model 'other'") as raised:
            client.chat.completions.create(model="other", messages=[_user("Hi")])
        assert raised.value.code == "model_not_found"
    assert httpx.get(f"{address}/nowhere").json()["error"]["type"] == "not_found_error"
