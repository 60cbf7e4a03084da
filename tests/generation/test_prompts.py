"""Prompts whose media are read beforehand, batches that are stopped, and the counts of tokens."""

import itertools
from dataclasses import replace

import pytest
import tiny
from PIL import Image

from nextgpt_pl.generation.decoding import Decoding
from nextgpt_pl.generation.stopping import StoppedError
from nextgpt_pl.generation.streaming import joined
from nextgpt_pl.modality import Modality
from nextgpt_pl.pipeline import AnyToAny


@pytest.fixture(scope="module")
def chat(tiny_models):
    network = tiny.network(tiny_models)
    network.load()
    return AnyToAny(network)


def _ask(color):
    picture = {"type": "image", "image": Image.new("RGB", (32, 32), color)}
    return [{"role": "user", "content": [picture, {"type": "text", "text": "What is it?"}]}]


def test_prompts_that_are_read_give_the_replies_of_their_messages(chat, monkeypatch):
    conversations = [_ask("red"), _ask("blue")]
    options = {"modalities": [], "max_new_tokens": 8}
    expected = chat.batch(conversations, **options)
    prompts = [chat.prompt(messages, 8) for messages in conversations]
    assert len({slot.media.source.content_key() for prompt in prompts for slot in prompt.slots}) == 2
    monkeypatch.setattr(type(chat.network.encoder), "prepare", lambda *_: pytest.fail("read again"))
    assert chat.batch(prompts, **options) == expected
    assert joined(chat.stream(prompts[1], **options)) == expected[1]


def test_equal_media_of_two_prompts_have_one_key(chat):
    first, again = (chat.prompt(_ask("red"), 8).slots[0].media for _ in range(2))
    assert first == again


def test_a_batch_that_is_stopped_writes_no_further_token(chat, monkeypatch):
    passes, calls = [], itertools.count()
    chat.network.llm.model.base_model.register_forward_hook(lambda *_: passes.append(1))
    with pytest.raises(StoppedError):
        chat.batch([_ask("red")] * 2, stop=lambda: next(calls) == 3, max_new_tokens=50, modalities=["image"])
    assert len(passes) == 4
    drawn = []
    decoder = chat.network.decoders[Modality.IMAGE]
    monkeypatch.setattr(decoder, "sampling", {**decoder.sampling, "num_inference_steps": 6})
    passes.clear()

    def stop():
        drawn.append(len(passes))
        return len(drawn) > 5 + 2

    with pytest.raises(StoppedError):
        chat.batch([_ask("red")], stop=stop, max_new_tokens=5, modalities=["image"])
    assert drawn[-1] == drawn[-3]  # the last three calls were steps of denoising


@pytest.mark.parametrize("options", [{"modalities": []}, {"modalities": ["image", "audio"]}])
def test_parts_count_the_tokens_of_the_reply(chat, options):
    (whole,) = chat.batch([_ask("red")], max_new_tokens=20, **options)
    (row,) = chat.write([_ask("red")], replace(_decoding(options), max_new_tokens=20))
    written = sum(label >= 0 for label in row.labels)
    assert sum(part.tokens for part in whole) == written
    streamed = joined(chat.stream(_ask("red"), max_new_tokens=20, **options))
    assert [part.tokens for part in streamed] == [part.tokens for part in whole]


def _decoding(options):
    return Decoding(modalities=[Modality(name) for name in options["modalities"]])
