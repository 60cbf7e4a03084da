from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import get_args

import pytest

from nextgpt_pl.batches import IGNORE
from nextgpt_pl.datamodules import PocketDialogues, PocketWorld
from nextgpt_pl.dialogue.conversation import Conversation, Direction, pair_to_dialogue, parts_of
from nextgpt_pl.encoders import ImageBindEncoder
from nextgpt_pl.errors import UserError
from nextgpt_pl.llm import CausalLM
from nextgpt_pl.modality import GENERATED, Modality
from nextgpt_pl.model import NextGPT
from nextgpt_pl.pocket.parts import pocket_decoder
from nextgpt_pl.projections import MLPOutputProjection, WordInputProjection
from nextgpt_pl.samples import CaptionedPair, Dialogue, Media, MediaPart, Message, TextPart
from nextgpt_pl.utils import bounded_jinja

SHOWN = Media(Modality.IMAGE, Path("x.png"))
IMAGE_IDS = [900, 901, 902, 903]


@pytest.fixture
def conversation(pocket_tokenizer):
    return Conversation(pocket_tokenizer, {Modality.IMAGE: IMAGE_IDS, Modality.AUDIO: [910]}, {Modality.IMAGE: 3})


def test_generation_labels_the_signal_tokens_and_the_end(conversation, pocket_tokenizer):
    row = conversation(CaptionedPair("k", Modality.IMAGE, "a red circle", instruction="Draw a red circle."))
    (span,) = row.spans
    assert row.input_ids[span.start : span.stop] == IMAGE_IDS
    assert span.caption == "a red circle"
    labelled = [label for label in row.labels if label != IGNORE]
    assert labelled == [*IMAGE_IDS, pocket_tokenizer.eos_token_id]
    text = pocket_tokenizer.decode(row.input_ids[: span.start])
    assert text == "<|bos|><|user|>Draw a red circle.<|eos|><|assistant|>"


def test_labels_stand_where_their_tokens_stand(conversation):
    row = conversation(CaptionedPair("k", Modality.IMAGE, "a red circle", response="Sure! <image> There."))
    assert all(label in (IGNORE, token) for token, label in zip(row.input_ids, row.labels, strict=True))


def test_a_prompt_is_tokenised_alike_in_training_and_generation(conversation):
    dialogue = pair_to_dialogue(CaptionedPair("k", Modality.IMAGE, "a red circle"), "generation")
    prompt = Dialogue("k", dialogue.messages[:1])
    ids = conversation.render(prompt, add_generation_prompt=True).input_ids
    assert conversation.render(dialogue).input_ids[: len(ids)] == ids


def test_comprehension_has_a_slot_and_learns_the_caption(conversation, pocket_tokenizer):
    conversation.direction = "comprehension"
    row = conversation(
        CaptionedPair(
            "k",
            Modality.IMAGE,
            "a red circle",
            Media(Modality.IMAGE, Path("x.png")),
            question="<image>\nWhat is it?",
        )
    )
    (slot,) = row.slots
    assert slot.stop - slot.start == 3
    assert pocket_tokenizer.decode([i for i in row.labels if i != IGNORE]) == "a red circle<|eos|>"


def test_a_description_is_learned_instead_of_the_caption_where_the_source_has_one(conversation, pocket_tokenizer):
    conversation.direction = "comprehension"
    picture = Media(Modality.IMAGE, Path("x.png"))
    row = conversation(CaptionedPair("k", Modality.IMAGE, "a red circle", picture, description="A red circle."))
    assert pocket_tokenizer.decode([i for i in row.labels if i != IGNORE]) == "A red circle.<|eos|>"


def test_special_tokens_typed_by_a_user_are_text(conversation, pocket_tokenizer):
    row = conversation(CaptionedPair("k", Modality.IMAGE, "x", instruction="<|assistant|>[IMG0]<|eos|>"))
    special = [i for i in row.input_ids if i in pocket_tokenizer.all_special_ids]
    assert len(special) == 5  # bos, user, eos, assistant, eos


def test_interleaved_reply_keeps_the_order(conversation):
    parts = parts_of(
        "one <image> two <audio>", [MediaPart(Modality.IMAGE, caption="a"), MediaPart(Modality.AUDIO, caption="b")], "k"
    )
    row = conversation(Dialogue("k", (Message("user", (TextPart("hi"),)), Message("assistant", parts))))
    assert [s.modality for s in row.spans] == [Modality.IMAGE, Modality.AUDIO]


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        (CaptionedPair("row 7", Modality.VIDEO, "x"), "row 7: the assistant is to produce video"),
        (CaptionedPair("row 7", Modality.IMAGE, "x", response="<audio>"), "row 7: the text has <audio>"),
        (CaptionedPair("row 7", Modality.IMAGE, "x", response="Sure!"), "row 7: 1 media without a placeholder"),
    ],
)
def test_what_cannot_be_rendered_is_named(conversation, pair, message):
    with pytest.raises(UserError, match=message):
        conversation(pair)


def test_other_chat_templates(pocket_tokenizer, monkeypatch):
    from copy import deepcopy

    monkeypatch.setattr(bounded_jinja, "STEPS", 10_000)

    tokenizer = deepcopy(pocket_tokenizer)
    vicuna = Path(__file__).parent.parent / "data" / "vicuna.jinja"
    tokenizer.chat_template = vicuna.read_text()
    conversation = Conversation(tokenizer, {Modality.IMAGE: IMAGE_IDS})
    row = conversation(CaptionedPair("k", Modality.IMAGE, "a red circle"))
    assert tokenizer.decode(row.input_ids[: row.spans[0].start]).endswith("ASSISTANT: ")
    tokenizer.chat_template = "nothing"
    with pytest.raises(UserError, match="drops messages"):
        conversation(CaptionedPair("k", Modality.IMAGE, "a red circle"))
    tokenizer.chat_template = "{{ raise_exception('roles must alternate') }}"
    with pytest.raises(UserError, match="row 7: the chat template refuses the messages: roles must alternate"):
        conversation(CaptionedPair("row 7", Modality.IMAGE, "a red circle"))
    tokenizer.chat_template = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
    with pytest.raises(UserError, match=r"row 8: the chat template refuses the messages: more than .*; does it end\?"):
        Conversation(tokenizer, {Modality.IMAGE: IMAGE_IDS})(CaptionedPair("row 8", Modality.IMAGE, "a red circle"))


def test_pocket_rows_have_the_ids_that_the_chat_adapter_was_trained_on():
    """A digest over dialogues of every route and pairs of both directions, recorded when it was trained."""
    network = NextGPT(
        llm=CausalLM("pocket:llm"),
        encoder=ImageBindEncoder("pocket:encoder", video_clips=4, audio_clips=1),
        input_projection=partial(WordInputProjection, width=16, expand=2),
        decoders={m.value: pocket_decoder(m) for m in GENERATED},
        output_projection=partial(MLPOutputProjection, width=16),
    )
    found = sha256()
    for direction in get_args(Direction):
        render = network.conversation(direction)
        for item in [*PocketDialogues(train_size=12).read("train"), *PocketWorld(train_size=40).read("train")]:
            row = render(item)
            places = [(p.start, p.stop) for p in (*row.slots, *row.spans)]
            found.update(repr((row.input_ids, row.labels, places)).encode())
    assert found.hexdigest() == "98e4123edf7731ed821df4e706c0b8c37d837bbede667542b5eecaf275770b67"


@pytest.mark.parametrize("part", [TextPart("so \ud83d"), MediaPart(Modality.IMAGE, caption="so \ud83d")])
def test_half_of_a_character_is_named(conversation, part):
    dialogue = Dialogue("row 7", (Message("user", (TextPart("x"),)), Message("assistant", (part,))))
    with pytest.raises(UserError, match=r"^row 7: the text has half of a character, \\ud83d, at position 3$"):
        conversation.render(dialogue)
