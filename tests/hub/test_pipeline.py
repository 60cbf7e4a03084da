"""transformers' pipeline of a pushed folder, compared with ``AnyToAny``."""

import base64
import io
import itertools

import numpy as np
import pytest
import torch
from PIL import Image

from nextgpt_pl.errors import UserError
from nextgpt_pl.generation.streaming import joined
from nextgpt_pl.readers.chat import MediaAccess
from nextgpt_pl.samples import ReplyPart

OPTIONS = {"seed": 3, "temperature": 0.7, "max_new_tokens": 60, "modalities": ["image", "video", "audio"]}
SHORT = {"max_new_tokens": 3, "modalities": []}


def _asked(*parts):
    return [{"role": "user", "content": [*parts, {"type": "text", "text": "Show and play it."}]}]


@pytest.fixture(scope="module")
def red(tmp_path_factory):
    path = tmp_path_factory.mktemp("media") / "red.png"
    Image.new("RGB", (64, 64), "red").save(path)
    return path


@pytest.fixture(scope="module")
def reply(pipe, red):
    return pipe(_asked({"type": "image", "path": str(red)}), **OPTIONS)


def _same(parts, content):
    assert [part.type for part in parts] == [part["type"] for part in content]
    for part, given in zip(parts, content, strict=True):
        if part.type == "text":
            assert given == {"type": "text", "text": part.text}
        else:
            assert np.array_equal(np.asarray(given[part.type]), part.array)
            assert given.get("rate") == part.rate


def test_text_and_media_are_those_of_any_to_any(chat, red, reply):
    asked = _asked({"type": "image", "path": str(red)})
    ((record,),) = [reply]
    assert record["input_text"] == asked
    assert record["generated_text"][:-1] == asked
    assert record["generated_text"][-1]["role"] == "assistant"
    content = record["generated_text"][-1]["content"]
    assert {"image", "video", "audio"} <= {part["type"] for part in content}
    assert all(isinstance(part["image"], Image.Image) for part in content if part["type"] == "image")
    _same(chat(asked, **OPTIONS), content)


def test_a_reply_is_part_of_the_next_messages(pipe, chat, reply):
    messages = [*reply[0]["generated_text"], {"role": "user", "content": "Again."}]
    content = pipe(messages, **SHORT, return_full_text=False)[0]["generated_text"]
    _same(chat(messages, **SHORT), content)


def test_messages_of_transformers_and_openai_ask_the_same(pipe, red):
    buffer = io.BytesIO()
    Image.open(red).save(buffer, "PNG")
    data = base64.b64encode(buffer.getvalue()).decode()
    parts = [
        {"type": "image", "path": str(red)},
        {"type": "image", "url": red.as_uri()},
        {"type": "image", "base64": data},
        {"type": "image", "image": Image.open(red)},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}},
    ]
    first, *others = [_prompt(pipe, part) for part in parts]
    for prompt in others:
        assert prompt.input_ids == first.input_ids
        assert torch.equal(prompt.slots[0].inputs, first.slots[0].inputs)


def test_sounds_and_videos_of_openai_are_read(pipe, reply):
    from nextgpt_pl.serving.content import content_part

    for part in reply[0]["generated_text"][-1]["content"]:
        if part["type"] in ("video", "audio"):
            openai = content_part(ReplyPart(part["type"], array=part[part["type"]], rate=part["rate"]))
            assert openai["type"] in ("video_url", "input_audio")
            assert [slot.modality.value for slot in _prompt(pipe, openai).slots] == [part["type"]]


def _prompt(pipe, part):
    return pipe.preprocess(_asked(part))["asked"].prompt


def test_batches_generators_and_workers_give_the_same_replies(pipe, chat):
    conversations = [[{"role": "user", "content": text}] for text in ("Hello!", "Who are you?", "What can you do?")]
    expected = [[part.text for part in chat(messages, max_new_tokens=4)] for messages in conversations]
    texts = [messages[0]["content"] for messages in conversations]
    for given, options in (
        (conversations, {"batch_size": 2}),
        (texts, {}),
        ((messages for messages in conversations), {"num_workers": 1}),
    ):
        records = list(pipe(given, max_new_tokens=4, return_full_text=False, **options))
        assert [[part["text"] for part in record["generated_text"]] for (record,) in records] == expected


def test_media_may_be_given_beside_a_text(pipe, red):
    image = Image.open(red)
    assert pipe("What is it?", images=image, **SHORT)[0]["input_text"] == [
        {"role": "user", "content": [{"type": "image", "image": image}, {"type": "text", "text": "What is it?"}]}
    ]


@pytest.mark.slow
def test_a_stream_gives_the_parts_of_the_reply(pipe, reply, red):
    parts = list(pipe.stream(_asked({"type": "image", "path": str(red)}), **OPTIONS))
    assert len(parts) > len(reply[0]["generated_text"][-1]["content"])  # text comes in pieces
    read = [
        ReplyPart(p["type"], **({"text": p["text"]} if p["type"] == "text" else {"array": np.asarray(p[p["type"]])}))
        for p in parts
    ]
    whole = reply[0]["generated_text"][-1]["content"]
    assert [p.text for p in joined(read) if p.text] == [p["text"] for p in whole if p["type"] == "text"]
    for part, given in zip((p for p in read if not p.text), (p for p in whole if p["type"] != "text"), strict=True):
        # a stream reads all signal tokens of a medium in one pass, whose last bits differ
        largest = 1.0 if part.type == "audio" else 255.0
        difference = np.abs(np.asarray(part.array, np.float64) - np.asarray(given[part.type], np.float64))
        assert difference.max() <= 0.05 * largest
        assert difference.mean() <= 0.005 * largest


def test_options_may_be_given_early_or_together(pipe):
    from transformers import pipeline

    other = pipeline(
        "any-to-any", model=pipe.model, processor=pipe.processor, pipeline_class=type(pipe), device="cpu", **SHORT
    )
    assert other("Hello!") == pipe("Hello!", generate_kwargs=SHORT) == pipe("Hello!", **SHORT)


@pytest.mark.parametrize(
    ("asked", "options", "message"),
    [
        ("Hello!", {"max_new_tokns": 3}, "max_new_tokns: no such option; did you mean 'max_new_tokens'?"),
        ("Hello!", {"max_new_tokens": 0}, "max_new_tokens=0: a whole number"),
        ("Hello!", {"seed": 1, "generate_kwargs": {"seed": 1}}, "seed: given twice, also in generate_kwargs"),
        ([], {}, "no messages: give"),
        (None, {}, "no messages: give"),
        ({"text": "Hello!"}, {}, "a conversation is a list of messages, not a mapping"),
        ([{"role": "user", "content": "Hello!"}], {"images": []}, "images, videos and audio belong to one text"),
        (_asked({"type": "imge", "url": "x"}), {}, "message 0, part 0: a part of type 'imge' is not read"),
        (_asked({"type": "image", "url": "https://x.y/z.png"}), {}, "http and https URLs are not fetched here"),
    ],
)
def test_mistakes_are_named(pipe, asked, options, message):
    with pytest.raises(UserError) as caught:
        pipe(asked, **options)
    assert message in str(caught.value)


def test_access_restricts_what_messages_name(pipe, red):
    with pytest.raises(UserError, match="files are not read here"):
        pipe(_asked({"type": "image", "path": str(red)}), access=MediaAccess(folders=()), **SHORT)
    with pytest.raises(UserError, match="files are not read here"):
        next(pipe.stream(_asked({"type": "image", "path": str(red)}), access=MediaAccess(folders=())))


def test_a_consumer_may_leave_a_stream(pipe):
    assert len(list(itertools.islice(pipe.stream("Hello!", modalities=[]), 1))) == 1
