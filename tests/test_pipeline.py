from random import Random

import numpy as np
import pytest
import torch
from PIL import Image

from nextgpt_pl.checkpoints import save_adapter
from nextgpt_pl.encoders import ImageBindEncoder
from nextgpt_pl.errors import UserError
from nextgpt_pl.modality import GENERATED, Modality
from nextgpt_pl.pipeline import AnyToAny, dialogue_of
from nextgpt_pl.pocket import dialogues, world
from nextgpt_pl.pocket.routes import messages_of, reply_is_right
from nextgpt_pl.projections import MLPInputProjection
from nextgpt_pl.samples import ReplyPart

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
    streamed = list(model.stream(messages, modalities=["image"], **QUICK))
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


def _batch(model, messages):
    from nextgpt_pl.batching import pad

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
        ([{"role": "robot", "content": "x"}], "message 0: role='robot'"),
        ([{"role": "assistant", "content": "x"}], "must end with one of the user"),
        (_ask("x", {"type": "imag", "imag": 1}), "part 0: type='imag'.*did you mean 'image'"),
        (_ask("x", {"type": "image", "image": "no.png"}), "no such file: no.png"),
        (_ask("x", {"type": "image"}), "no 'image' in it"),
    ],
)
def test_mistakes_in_messages_are_named(messages, message):
    with pytest.raises(UserError, match=message):
        dialogue_of(messages)


def test_mistakes_in_options_are_named(model, tmp_path):
    with pytest.raises(UserError, match="temprature: no such option; did you mean 'temperature'"):
        model(_ask("x"), temprature=1.0)
    with pytest.raises(UserError, match="no decoder makes 'smell'"):
        model(_ask("x"), modalities=["smell"])
    with pytest.raises(UserError, match=r"no config\.yaml and adapter"):
        AnyToAny.from_run(tmp_path)


@pytest.mark.parametrize("route", dialogues.ROUTES)
def test_the_true_reply_of_every_route_is_judged_right(route):
    """The judge accepts what the dialogue itself says and renders, and not the reply to another dialogue."""
    right = 0
    for index in range(4):
        dialogue = dialogues.dialogue(route, "heldout", index)
        expected = dialogue.attributes["expected"]
        reply = [ReplyPart("text", text=p.text) for p in dialogue.messages[-1].parts if hasattr(p, "text")]
        for kind, scene in expected:
            if kind != "text":
                medium = dialogues.medium_of(scene, Random(index))
                reply.append(ReplyPart(kind, array=medium.source()))
        assert reply_is_right(reply, expected)
        other = dialogues.dialogue(route, "heldout", index + 100).attributes["expected"]
        right += bool(other) and reply_is_right(reply, other)
        assert messages_of(dialogue)[-1]["role"] == "user"
    assert (right == 4) == (route == "beyond")  # whose replies are all the same


def test_dialogues_of_a_split_stay_in_it():
    for route in dialogues.ROUTES:
        for index in range(20):
            for split in ("train", "heldout"):
                for kind, scene in dialogues.dialogue(route, split, index).attributes["expected"]:
                    if route != "audio->image" and not isinstance(scene, world.Answer):
                        assert world.is_heldout(scene) == (split == "heldout"), (route, kind)


def test_the_package_offers_it_and_the_pipeline_imports_no_lightning():
    """A service that answers messages needs no training framework."""
    import subprocess
    import sys

    code = (
        "import sys, nextgpt_pl; assert 'torch' not in sys.modules; nextgpt_pl.AnyToAny; "
        "assert 'lightning' not in sys.modules, 'lightning'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
