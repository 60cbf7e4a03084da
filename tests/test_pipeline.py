import gc
import warnings
import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from nextgpt_pl.adapter import save_adapter
from nextgpt_pl.dialogue.context import ContextWarning
from nextgpt_pl.encoders import ImageBindEncoder
from nextgpt_pl.errors import UserError
from nextgpt_pl.generation.decoding import Decoding
from nextgpt_pl.generation.generate import generate
from nextgpt_pl.generation.streaming import joined
from nextgpt_pl.modality import GENERATED, Modality
from nextgpt_pl.pipeline import AnyToAny
from nextgpt_pl.projections import MLPInputProjection
from nextgpt_pl.readers.chat import MediaAccess, dialogue_of
from nextgpt_pl.samples import Media
from nextgpt_pl.saved_network import network_of

POCKET = Path(__file__).parent.parent / "experiments" / "models" / "pocket.yaml"
QUICK = {m.value: {"num_inference_steps": 1} for m in GENERATED}


@pytest.fixture
def model(network):
    network.encoder = ImageBindEncoder("pocket:encoder", video_clips=4, audio_clips=1)
    network.input_projection_factory = lambda c, h: MLPInputProjection(c, h, width=16, expand=2)
    network.load()
    return AnyToAny(network)


def _ask(text, *media):
    return [{"role": "user", "content": [*media, {"type": "text", "text": text}]}]


def test_a_reply_is_text_and_media_in_the_order_of_the_spans(model):
    reply = model(_ask("Hello!"), modalities=["image", "audio"], **QUICK)
    kinds = [part.type for part in reply]
    assert [k for k in kinds if k != "text"] == ["image", "audio"]
    image = next(p for p in reply if p.type == "image")
    audio = next(p for p in reply if p.type == "audio")
    assert image.array.shape == (64, 64, 3)
    assert (audio.array.shape, audio.rate) == ((32000,), 16000)
    assert all(p.text for p in reply if p.type == "text")


def test_streamed_parts_are_those_of_the_reply(model):
    messages = _ask("Hello!")
    streamed = joined(model.stream(messages, modalities=["image"], **QUICK))
    whole = model(messages, modalities=["image"], **QUICK)
    assert [p.type for p in streamed] == [p.type for p in whole]
    for one, other in zip(streamed, whole, strict=True):
        assert one.text == other.text
        if one.array is not None:
            assert np.abs(one.array.astype(int) - other.array).max() <= 1


def test_batches_give_what_single_calls_give(model):
    conversations = [_ask("Hello!"), _ask("Which shapes do you know?")]
    together = model(conversations, modalities=[])
    assert together == [model(c, modalities=[]) for c in conversations]


def test_media_of_a_batch_are_those_of_the_single_calls(model):
    conversations = [_ask("Hello!"), _ask("Which shapes do you know?")]
    options = {"modalities": ["image", "audio"], **QUICK}
    together = model(conversations, **options)
    for reply, messages in zip(together, conversations, strict=True):
        (drawn,) = (p.array for p in reply if p.type == "image")
        (alone,) = (p.array for p in model(messages, **options) if p.type == "image")
        assert np.abs(drawn.astype(int) - alone).max() <= 1
    seeded = model.batch(conversations, seeds=[0, 5], **options)
    images = [next(p.array for p in reply if p.type == "image") for reply in (together[1], seeded[1])]
    assert np.abs(images[0].astype(int) - images[1]).max() > 1
    with pytest.raises(UserError, match="seeds: 1 given for 2"):
        model.batch(conversations, seeds=[0])


def test_media_of_every_form_are_shown_to_the_model(model, tmp_path):
    picture = np.zeros((64, 64, 3), np.uint8)
    Image.fromarray(picture).save(tmp_path / "p.png")
    forms = [picture, Image.fromarray(picture), str(tmp_path / "p.png"), (tmp_path / "p.png").read_bytes()]
    replies = [model(_ask("What is this?", {"type": "image", "image": form}), modalities=[]) for form in forms]
    assert all(reply == replies[0] for reply in replies)
    other = np.full((64, 64, 3), 255, np.uint8)
    row, changed = (
        model.network.embed(_batch(model, _ask("What?", {"type": "image", "image": a}))) for a in (picture, other)
    )
    assert not torch.allclose(row, changed)


def test_what_messages_may_name_is_the_callers_choice(model, tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "p.png")
    asked = _ask("What?", {"type": "image_url", "image_url": {"url": str(tmp_path / "p.png")}})
    assert model(asked, modalities=[], max_new_tokens=2)
    closed = AnyToAny(model.network, access=MediaAccess(folders=()))
    for ask in (closed, closed.within_context, lambda messages: list(closed.stream(messages))):
        with pytest.raises(UserError, match="message 0, part 0: files are not read here"):
            ask(asked)


def _batch(model, messages):
    from nextgpt_pl.dialogue.batching import pad

    return pad([model.conversation.render(dialogue_of(messages), add_generation_prompt=True)], 0)


def test_replies_go_into_the_next_messages(model):
    first = _ask("Hello!")
    reply = model(first, modalities=["image"], **QUICK)
    messages = [*first, {"role": "assistant", "content": reply}, *_ask("The same, but make it blue.")]
    row = model.conversation.render(dialogue_of(messages), add_generation_prompt=True)
    assert [span.modality for span in row.spans] == [Modality.IMAGE]
    assert model(messages, modalities=[])[0].type == "text"


def test_a_run_folder_is_read_back(model, tmp_path):
    import yaml

    keys = [n for n, p in model.network.named_parameters() if p.requires_grad]
    save_adapter(tmp_path / "adapter", model.network, keys, stage="X")
    parts = "nextgpt_pl."
    sampling = {"height": 64, "width": 64}
    network = {
        "class_path": parts + "model.NextGPT",
        "init_args": {
            "llm": {"class_path": parts + "llm.CausalLM", "init_args": {"path": "pocket:llm"}},
            "encoder": {
                "class_path": parts + "encoders.ImageBindEncoder",
                "init_args": {"weights": "pocket:encoder", "video_clips": 4, "audio_clips": 1},
            },
            "input_projection": {
                "class_path": parts + "projections.MLPInputProjection",
                "init_args": {"width": 16, "expand": 2},
            },
            "output_projection": {
                "class_path": parts + "projections.TransformerOutputProjection",
                "init_args": {"width": 32, "layers": 1, "heads": 4, "dropout": 0.0},
            },
            "decoders": {
                "image": {
                    "class_path": parts + "decoders.DiffusionDecoder",
                    "init_args": {
                        "pipeline": "StableDiffusionPipeline",
                        "path": "pocket:image",
                        "sampling": sampling,
                    },
                },
            },
        },
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"model": {"init_args": {"network": network}}}))
    with pytest.raises(UserError, match=r"output_projections\.video.*unexpected"):
        AnyToAny.from_run(tmp_path)
    keys = [k for k in keys if ("video" not in k and "audio" not in k) or "llm" in k or "input" in k]
    save_adapter(tmp_path / "adapter", model.network, keys, stage="X")
    again = AnyToAny.from_run(tmp_path, "cpu")
    messages = _ask("Hello!")
    assert again(messages, modalities=[]) == model(messages, modalities=[])


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ("Hello!", "a list of messages, or of conversations, not str"),
        ({"role": "user", "content": "Hello!"}, "a list of messages, or of conversations, not dict"),
        (["Hello!"], "message 0: str, not"),
        ([{"role": "user", "content": None}], "message 0: its content is a text or a list of parts, not None"),
        ([{"role": "user", "content": 5}], "message 0: its content is a text or a list of parts, not 5"),
        ([{"role": "user", "content": {"type": "text", "text": "x"}}], "message 0: its content is a text or a list"),
        ([{"role": "user", "content": [5]}], "part 0: a part of a message is 5"),
    ],
)
def test_messages_of_another_type_are_named(model, messages, message):
    with pytest.raises(UserError, match=message):
        model(messages)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens=0: a whole number of tokens, at least 1"),
        ({"max_new_tokens": 2.5}, "max_new_tokens=2.5"),
        ({"max_new_tokens": True}, "max_new_tokens=True"),
        ({"temperature": -0.1}, "temperature=-0.1: a number, 0 or above"),
        ({"temperature": float("nan")}, "temperature=nan"),
        ({"temperature": "hot"}, "temperature='hot'"),
        ({"top_p": 0}, "top_p=0: a share"),
        ({"top_p": 1.01}, "top_p=1.01: a share"),
        ({"seed": 0.5}, "seed=0.5: a whole number"),
        ({"seed": -1}, "seed=-1: a whole number"),
        ({"seed": 2**64}, "seed=18446744073709551616"),
        ({"seeds": [0.5]}, r"seeds\[0\]=0.5"),
        ({"modalities": "image"}, "modalities='image': a list"),
        ({"image": 5}, "image=5: expected a dictionary"),
        ({"max_new_tokens": 600}, "max_new_tokens=600: the LLM's context is 512 tokens, prompt included"),
    ],
)
def test_values_out_of_bounds_are_named(model, options, message):
    with pytest.raises(UserError, match=message):
        model.batch([_ask("Hello!")], **options)


def test_no_conversations_have_no_replies(model):
    assert model([]) == []


def _exchanges(count):
    said = "Which shapes do you know? Tell me about each of them."
    return [
        turn
        for _ in range(count)
        for turn in ({"role": "user", "content": said}, {"role": "assistant", "content": said})
    ]


def test_a_conversation_that_outgrows_the_context_loses_its_oldest_exchanges_and_says_so(model):
    messages = [{"role": "system", "content": "Be brief."}, *_exchanges(60), *_ask("Hello!")]
    with pytest.warns(ContextWarning, match=r"longer than the LLM's context; its \d+ oldest messages are left out"):
        (row,) = model.write([messages], Decoding(max_new_tokens=8, modalities=[]))
    assert len(row.input_ids) <= 512
    kept = model.within_context(messages, 8)
    assert kept[0] == messages[0]
    assert kept[1:] == messages[-len(kept) + 1 :]
    render = model.conversation.render
    assert len(render(dialogue_of(kept), add_generation_prompt=True).input_ids) + 8 <= 512
    one_more = [messages[0], *messages[-len(kept) - 1 :]]
    assert len(render(dialogue_of(one_more), add_generation_prompt=True).input_ids) + 8 > 512
    # nothing is dropped from one that fits, and the reply is the same
    with warnings.catch_warnings(action="error", category=ContextWarning):
        (again,) = model.write([kept], Decoding(max_new_tokens=8, modalities=[]))
    assert again.input_ids == row.input_ids


def test_a_message_that_is_too_long_alone_is_an_error_with_both_numbers(model):
    messages = [*_exchanges(2), *_ask("red " * 600)]
    with pytest.raises(
        UserError, match=r"chat: \d{3,4} tokens in the last exchange alone.*context is 512 tokens, 160 of"
    ):
        model(messages)


def test_other_mistakes_of_a_conversation_say_nothing_of_the_context(model):
    sound = {"type": "depth", "depth": np.zeros((2, 2), np.float32)}
    with pytest.raises(UserError, match=r"the user shows depth, but no encoder reads it, only image, video, audio$"):
        model(_ask("What?", sound))
    with pytest.raises(UserError, match="max_new_tokens='8'"):
        model.within_context(_ask("Hello!"), "8")


def test_no_reply_goes_beyond_the_context(model):
    prompt = model.conversation.render(dialogue_of(_ask("red " * 100)), add_generation_prompt=True)

    def of_length(count):
        return replace(prompt, input_ids=(prompt.input_ids * 9)[:count], labels=[-100] * count)

    full = of_length(509)
    (reply,) = generate(model.network, [full], Decoding(modalities=[]))
    assert len(reply.ids) <= 3
    with pytest.raises(UserError, match="a prompt of 512 tokens, the LLM's context is 512"):
        generate(model.network, [of_length(512)])


def test_arrays_that_were_shown_are_let_go_of(model):
    pictures = [np.full((256, 256, 3), shade, np.uint8) for shade in range(3)]
    held = [weakref.ref(picture) for picture in pictures]
    for picture in pictures:
        model(_ask("What is this?", {"type": "image", "image": picture}), modalities=[], max_new_tokens=1)
    del pictures, picture
    gc.collect()
    assert [ref() for ref in held] == [None] * 3


def test_what_is_remembered_of_many_pictures_and_captions_is_bounded():
    """300 pictures with features of 1 MB, as the paper's encoder gives in patches; and 300 captions."""
    network = network_of({"model": {"init_args": {"network": yaml.safe_load(POCKET.read_text())}}})
    encoder, decoder = network.encoder, network.decoders[Modality.IMAGE]
    big = torch.zeros(256, 1024)
    encoder._encode = lambda modality, media, device: big.expand(len(media), 256, 1024)
    decoder.captions.encode = lambda captions: torch.zeros(len(captions), 77, 1024)
    for number in range(300):
        source = lambda number=number: np.full((64, 64, 3), number % 256, np.uint8)  # noqa: E731
        medium = Media(Modality.IMAGE, source, fps=float(number))
        encoder.features(Modality.IMAGE, [medium], "cpu", network.encoder_stores)
        network.caption_embeddings(Modality.IMAGE, [f"caption {number}"])
    kept = [network.encoder_stores.memory, network.caption_embeddings._stores[Modality.IMAGE]]
    assert sum(v.nbytes for memory in kept for v in memory._values.values()) <= sum(m.bytes for m in kept) < 20e6
    assert all(isinstance(key, bytes) for memory in kept for key in memory._values)
    assert all(len(memory) for memory in kept)
    encoder._encode = decoder.captions.encode = lambda *_: pytest.fail("the last ones are there")
    encoder.features(Modality.IMAGE, [medium], "cpu", network.encoder_stores)
    network.caption_embeddings(Modality.IMAGE, ["caption 299"])


def test_what_training_remembers_is_left_alone(network):
    network.load()
    memory = network.encoder_stores.memory
    AnyToAny(network, placed=True)
    AnyToAny(network)
    assert network.encoder_stores.memory is memory
    assert not memory.evict


def test_mistakes_in_options_are_named(model, tmp_path):
    with pytest.raises(UserError, match="temprature: no such option; did you mean 'temperature'"):
        model(_ask("x"), temprature=1.0)
    with pytest.raises(UserError, match="no decoder makes 'smell'"):
        model(_ask("x"), modalities=["smell"])
    with pytest.raises(UserError, match=r"no config\.yaml and adapter"):
        AnyToAny.from_run(tmp_path)
