"""Replies while they are written: the same parts as those of a batch, in order, until the consumer stops."""

import gc
import threading
import weakref
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import DynamicCache

from nextgpt_pl.dialogue.reply_media import ReplyMedia, reply_media
from nextgpt_pl.errors import UserError
from nextgpt_pl.generation import streaming
from nextgpt_pl.generation.decoding import Decoding
from nextgpt_pl.generation.drawing import THREAD
from nextgpt_pl.generation.signals import Written, caption_embeddings
from nextgpt_pl.generation.streaming import joined
from nextgpt_pl.modality import GENERATED, Modality
from nextgpt_pl.pipeline import AnyToAny
from nextgpt_pl.readers.chat import dialogue_of
from nextgpt_pl.samples import ReplyPart

QUICK = {m.value: {"num_inference_steps": 1} for m in GENERATED}


@pytest.fixture
def chat(network):
    network.load()
    return AnyToAny(network)


def _ask(text):
    return [{"role": "user", "content": text}]


ASKED = [_ask("Hello!"), _ask("Which shapes do you know? Tell me about each of them, please."), _ask("Draw a ring.")]


@pytest.mark.parametrize("options", [{}, {"max_new_tokens": 3}, {"temperature": 1.0, "seed": 3}])
def test_the_states_of_generation_are_those_of_a_pass_over_prompt_and_reply(chat, options, monkeypatch):
    """In float32 within 1e-4 of the embeddings' scale; the batch's rows end at different lengths, and shrink."""
    decoding = Decoding(modalities=[Modality.IMAGE, Modality.VIDEO], **options)
    rows = chat._written(ASKED, decoding)
    expected = caption_embeddings(chat.network, [Written(one.row) for one in rows])
    if "max_new_tokens" not in options:  # else spans are completed that generation has not read
        monkeypatch.setattr(chat.network, "hidden_states", lambda *_: pytest.fail("a second pass"))
    found = caption_embeddings(chat.network, rows)
    assert [len(of_row) for of_row in found] == [len(one.row.spans) for one in rows]
    assert min(len(of_row) for of_row in found) >= 2
    for of_row, other in zip(found, expected, strict=True):
        for one, wanted in zip(of_row, other, strict=True):
            assert (one - wanted).abs().max() < 1e-4 * wanted.abs().max()


@pytest.mark.parametrize("options", [{}, {"max_new_tokens": 3}, {"temperature": 1.0, "seed": 3}])
def test_pieces_are_those_of_the_whole_reply(chat, options):
    options = {"modalities": ["image"], **options, **QUICK}
    torch.manual_seed(5)  # what is drawn from the global generator in between changes nothing
    streamed = []
    for part in chat.stream(ASKED[1], **options):
        torch.randn(3)
        streamed.append(part)
    (whole,) = chat.batch([ASKED[1]], **options)
    parts = joined(streamed)
    assert [(p.type, p.text) for p in parts] == [(p.type, p.text) for p in whole]
    images = [[p.array for p in reply if p.type == "image"] for reply in (parts, whole)]
    for one, other in zip(*images, strict=True):
        assert np.abs(one.astype(int) - other).max() <= 1
    if "max_new_tokens" not in options:
        assert sum(p.type == "text" for p in streamed) > 5


def _events(chat, monkeypatch):
    """Lists what happens: passes of the LLM (with its number of positions), drawings, and steps of denoising."""
    events = []
    base = chat.network.llm.model.base_model
    base.register_forward_hook(lambda _m, _a, out: events.append(("pass", out.last_hidden_state.shape[1])))
    for modality, decoder in chat.network.decoders.items():

        def generate(*args, modality=modality, generate=decoder.generate, **options):
            events.append(("draw", modality.value))
            return generate(*args, **options)

        monkeypatch.setattr(decoder, "generate", generate)
    return events


def test_text_comes_first_and_media_when_their_last_token_is_read(chat, monkeypatch):
    events = _events(chat, monkeypatch)
    for part in chat.stream(ASKED[0], modalities=["image"], **QUICK):
        events.append(("part", part.type))
    kinds = [kind for kind, _ in events]
    first = events.index(("part", "text"))
    assert ("draw", "image") not in events[:first]
    assert 1 <= kinds[:first].count("pass") <= 3
    # one pass over the prompt, then one per token, but one for all signal tokens of a medium
    widths = [width for kind, width in events if kind == "pass"][1:]
    assert set(widths) == {1, chat.network.num_signal_tokens[Modality.IMAGE]}
    assert widths.count(1) == len(widths) - 1
    drawn = kinds.index("draw")
    assert events[drawn + 1] == ("part", "image")
    assert "pass" in kinds[drawn:]


def test_a_closed_stream_writes_no_more_and_frees_its_cache(chat, monkeypatch):
    caches = []
    update = DynamicCache.update

    def kept(cache, *args, **options):
        caches.append(weakref.ref(cache))
        return update(cache, *args, **options)

    monkeypatch.setattr(DynamicCache, "update", kept)
    events = _events(chat, monkeypatch)
    stream = chat.stream(ASKED[1], modalities=[])
    next(stream)
    passes = len(events)
    assert caches[-1]() is not None
    stream.close()
    gc.collect()
    assert caches[-1]() is None
    assert len(events) == passes


def test_a_stop_ends_text_within_a_token(chat, monkeypatch):
    events = _events(chat, monkeypatch)
    stop = threading.Event()
    for part in chat.stream(ASKED[1], modalities=[], stop=stop.is_set):
        stop.set()
        passes = len(events)
        assert part.text
    assert len(events) <= passes + 1


@pytest.mark.parametrize("previews", [0, 1])
@pytest.mark.parametrize("modality", ["image", "video", "audio"])
def test_a_stop_ends_drawing_within_a_step(chat, modality, previews, monkeypatch):
    decoder, steps = chat.network.decoders[Modality(modality)], []
    original = decoder.generate

    def generate(*args, on_step, **options):
        def counted(step):
            steps.append(step)
            on_step(step)

        return original(*args, on_step=counted, **options)

    monkeypatch.setattr(decoder, "generate", generate)
    options = {"modalities": [modality], "previews": previews, modality: {"num_inference_steps": 9}}
    parts = list(chat.stream(ASKED[0], stop=lambda: len(steps) >= 3, **options))
    assert len(steps) == 3
    assert {p.type for p in parts if p.step is None} <= {"text"}
    if previews and modality != "audio":
        assert [p.step for p in parts if p.step] == [(1, 9), (2, 9)]


def test_previews_are_small_media_and_a_consumer_may_leave_at_one(chat):
    for modality, shape in (("image", (64, 64, 3)), ("video", (4, 64, 64, 3))):
        options = {"modalities": [modality], "previews": 1, modality: {"num_inference_steps": 3}}
        parts = [p for p in chat.stream(ASKED[0], **options) if p.type == modality]
        shown = [p for p in parts if p.step]
        assert [p.step for p in shown] == [(1, 3), (2, 3)] * (len(parts) - len(shown))
        assert {p.array.shape for p in shown} == {shape}
        assert all(p.array.dtype == np.uint8 and p.array.std() > 1 for p in shown)
        plain = [p for p in chat.stream(ASKED[0], **{**options, "previews": 0}) if p.type == modality]
        for one, other in zip([p for p in parts if not p.step], plain, strict=True):
            assert np.array_equal(one.array, other.array)
    stream = chat.stream(ASKED[0], modalities=["image"], previews=1, image={"num_inference_steps": 500})
    part = next(part for part in stream if part.step)
    stream.close()
    assert THREAD not in {thread.name for thread in threading.enumerate()}
    with pytest.raises(UserError, match="message 0, part 0: a preview of image, step 1 of 500"):
        dialogue_of([{"role": "user", "content": [part]}])


def test_errors_of_the_drawing_thread_reach_the_consumer(chat, monkeypatch):
    def fails(*_, **__):
        raise UserError("no such weights")

    monkeypatch.setattr(chat.network.decoders[Modality.IMAGE], "generate", fails)
    with pytest.raises(UserError, match="no such weights"):
        list(chat.stream(ASKED[0], modalities=["image"], previews=1))
    with pytest.raises(UserError, match="previews=-1: a whole number"):
        list(chat.stream(ASKED[0], previews=-1))


class _Letters:
    """A tokenizer of one letter per token, or more where the vocabulary says so."""

    def __init__(self, *words):
        self.words = words

    def decode(self, ids, skip_special_tokens=False):
        return "".join(self.words[i] for i in ids if i < len(self.words))


def _reader(words, stops=(), media=None):
    llm = SimpleNamespace(tokenizer=_Letters(*words), stop=list(stops))
    ids = {Modality.IMAGE: [90, 91]}
    network = SimpleNamespace(
        llm=llm, decoders={Modality.IMAGE: None}, embedded={}, reply_media=media or ReplyMedia(), signal_ids=lambda: ids
    )
    network.span_ids = network.signal_ids
    return streaming._Reader(network, SimpleNamespace(input_ids=[]))


def _texts(reader, ids):
    """The texts of what is yielded after each token, and at the end."""
    found = [list(reader.read(ids[:count], [])) for count in range(1, len(ids) + 1)]
    found.append(list(reader.read(ids, [], ended=True)))
    return [[piece.text for piece in pieces] for pieces in found]


def test_nothing_is_shown_that_a_stop_string_may_remove():
    reader = _reader(["a", "#", ".#", "b"], stops=["##"])
    assert _texts(reader, [0, 1, 3, 2]) == [["a"], [], ["#b"], [], [".#"]]


def test_blanks_at_the_ends_and_half_characters_are_held_back():
    reader = _reader([" ", "a", "\ufffd", "é"])
    assert _texts(reader, [0, 1, 0, 1, 0]) == [[], ["a"], [], [" a"], [], []]
    reader = _reader(["a", "\ufffd"])
    assert _texts(reader, [0, 1]) == [["a"], [], ["\ufffd"]]


def test_words_that_the_next_token_may_change_are_held_back():
    reader = _reader(["it", " is", " n't"])
    reader._llm.tokenizer.clean_up_tokenization_spaces = True
    assert _texts(reader, [0, 1, 2]) == [[], ["it"], [" is"], [" n't"]]


def test_captions_between_signal_tokens_are_no_text():
    reader = _reader(["a", "b"], media=reply_media("captions"))
    assert _texts(reader, [0, 90, 1])[:3] == [["a"], [], []]


def test_joined_parts_have_whole_texts_and_no_previews():
    image = ReplyPart("image", array=np.zeros((8, 8, 3), np.uint8))
    parts = [ReplyPart("text", text="a "), ReplyPart("text", text="b"), replace(image, step=(1, 2)), image]
    assert joined([*parts, ReplyPart("text", text="c")]) == [
        ReplyPart("text", text="a b"),
        image,
        ReplyPart("text", text="c"),
    ]
