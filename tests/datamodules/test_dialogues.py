import json

import numpy as np
import pytest
from PIL import Image

from nextgpt_pl.datamodules import (
    Alpaca,
    CaptionedPairs,
    Dialogues,
    LLaVA,
    OfficialDialogues,
    PocketDialogues,
    PocketWorld,
    VideoChat,
)
from nextgpt_pl.dialogue.conversation import Conversation
from nextgpt_pl.errors import UserError
from nextgpt_pl.modality import GENERATED, Modality
from nextgpt_pl.pocket.world.dialogues import dialogue
from nextgpt_pl.pocket.world.grammar import plain_caption
from nextgpt_pl.pocket.world.talk import HERE, sentence
from nextgpt_pl.samples import MediaPart, TextPart

SHAPES = {Modality.IMAGE: (77, 8), Modality.AUDIO: (8,)}


@pytest.fixture
def folder(tmp_path):
    for name in ("images", "videos", "audios", "embed"):
        (tmp_path / name).mkdir()
    for index in range(3):
        Image.new("RGB", (8, 8)).save(tmp_path / "images" / f"{index}.png")
        np.save(tmp_path / "embed" / f"{index}.npy", np.zeros((77, 8), np.float16))
    (tmp_path / "videos" / "v.mp4").write_bytes(b"x")
    (tmp_path / "audios" / "a.wav").write_bytes(b"x")
    return tmp_path


def _write(folder, rows):
    (folder / "d.json").write_text(json.dumps(rows))
    return ["d.json"]


def _turns(*texts):
    return [{"from": ("human", "gpt")[i % 2], "value": text} for i, text in enumerate(texts)]


MOSIT = {
    "input_image": ["0.png", "1.png"],
    "input_video": "v.mp4",
    "output_image": "2.png",
    "output_audio": ["a.wav"],
    "image_captions": "a dog",
    "image_caption_embeddings": "2.npy",
    "audio_captions": ["a bark"],
    "conversations": _turns("Hi <image> and <video>", "Nice.", "Now <image>: draw both", "Look <image> hear <audio> ."),
}


def _shape(message):
    return [p.text if isinstance(p, TextPart) else p.modality.value for p in message.parts]


def test_a_mosit_row_interleaves_media_on_both_sides(folder):
    (dialogue,) = OfficialDialogues(folder, _write(folder, [MOSIT])).read("train")
    assert [_shape(m) for m in dialogue.messages] == [
        ["Hi ", "image", " and ", "video"],
        ["Nice."],
        ["Now ", "image", ": draw both"],
        ["Look ", "image", " hear ", "audio", " ."],
    ]
    made = [p for p in dialogue.messages[3].parts if isinstance(p, MediaPart)]
    assert [p.caption for p in made] == ["a dog", "a bark"]
    assert made[0].caption_embedding.name == "2.npy"
    assert made[1].caption_embedding is None
    # what is to be made is there as well, where its file is: the denoising loss looks at it
    found = [p.media.source.name for m in dialogue.messages for p in m.parts if isinstance(p, MediaPart) and p.media]
    assert found == ["0.png", "v.mp4", "1.png", "2.png", "a.wav"]


def test_an_only_medium_without_a_placeholder_gets_its_usual_place(folder):
    row = {
        "input_image": "0.png",
        "output_audio": "a.wav",
        "audio_captions": "a bark",
        "conversations": _turns("What sound does it make?", "This one."),
    }
    (dialogue,) = OfficialDialogues(folder, _write(folder, [row])).read("train")
    assert _shape(dialogue.messages[0]) == ["image", "\nWhat sound does it make?"]
    assert _shape(dialogue.messages[1]) == ["This one. ", "audio"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"input_image": ["0.png", "9.png"]}, "missing image file"),
        ({"input_image": ["0.png", "../x.png"]}, "leaves its folder"),
        ({"input_image": "0.png"}, "a turn has <image>, but the row gives no such medium"),
        ({"input_image": ["0.png", "1.png", "2.png"]}, "1 input and 0 output media have no placeholder"),
        ({"audio_captions": []}, "1 files in output_audio, but 0 captions"),
        ({"image_caption_embeddings": "none.npy"}, "missing caption embedding"),
        ({"conversations": "hello"}, "a list of turns is expected"),
        ({"conversations": [{"from": "cat", "value": "x"}]}, "a turn from 'cat'"),
    ],
)
def test_broken_rows_are_named_with_file_and_row(folder, changes, message):
    files = _write(folder, [MOSIT, {**MOSIT, **changes}])
    with pytest.raises(UserError, match=r"d\.json, row 1: .*" + message):
        OfficialDialogues(folder, files).read("train")
    source = OfficialDialogues(folder, files, on_error="skip")
    assert len(source.read("train")) == 1
    assert (source.report.used, len(source.report.broken)) == (1, 1)


def test_llava_alpaca_and_videochat(folder):
    llava = {"id": "1", "image": "0.png", "conversations": _turns("<image>\nWhat is it?", "A dog.", "Sure?", "Yes.")}
    (dialogue,) = LLaVA(folder, _write(folder, [llava])).read("train")
    assert [_shape(m) for m in dialogue.messages] == [["image", "\nWhat is it?"], ["A dog."], ["Sure?"], ["Yes."]]
    alpaca = [
        {"instruction": "Add.", "input": "1 1", "output": "2"},
        {"instruction": "Say a.", "input": "", "output": "a"},
    ]
    first, second = Alpaca(folder, _write(folder, alpaca)).read("train")
    assert [_shape(m) for m in first.messages] == [["Add.\n1 1"], ["2"]]
    assert [_shape(m) for m in second.messages] == [["Say a."], ["a"]]
    chat = {"video": "v.mp4", "QA": [{"i": "Look.", "q": "What?", "a": "A dog."}, {"q": "Sure?", "a": "Yes."}]}
    (dialogue,) = VideoChat(folder, _write(folder, [chat])).read("train")
    assert [_shape(m) for m in dialogue.messages] == [["video", "Look.\nWhat?"], ["A dog."], ["Sure?"], ["Yes."]]
    with pytest.raises(UserError, match=r"row 0: key 'output' is missing"):
        Alpaca(folder, _write(folder, [{"instruction": "x"}])).read("train")


@pytest.fixture
def conversation(pocket_tokenizer):
    ids = {Modality.IMAGE: [9001, 9002], Modality.VIDEO: [9003], Modality.AUDIO: [9004]}
    return Conversation(pocket_tokenizer, ids, dict.fromkeys(Modality, 2))


def _module(conversation, **arguments):
    sources = [
        PocketDialogues(20, 2, ["text->image", "text->text"], name="a"),
        PocketDialogues(20, 2, ["text->audio", "image->text"], seed=1, name="b"),
    ]
    return Dialogues(sources, batch_size=4, **arguments).with_renderer(conversation)


def test_loss_stands_on_the_assistants_turns_alone(conversation):
    data = _module(conversation)
    batch = next(iter(data.train_dataloader()))
    decode = conversation.tokenizer.decode
    for row in batch.rows():
        text = decode([i for i in row.labels if i >= 0])
        assert "<|user|>" not in text
        assert text.endswith("<|eos|>")
        assert row.labels[0] == -100


def test_replies_name_what_they_show_in_one_wording():
    for route, modality in (("text->image", "image"), ("image->video", "video"), ("text->audio", "audio")):
        requests, replies = set(), set()
        for index in range(12):
            found = dialogue(route, "heldout", index)
            asked, answered = found.messages[-2:]
            ((kind, scene),) = found.attributes["expected"]
            said, medium = answered.parts
            assert kind == modality == medium.modality
            assert medium.caption == plain_caption(scene)
            assert plain_caption(scene) in said.text
            requests |= {part.text for part in asked.parts if hasattr(part, "text")}
            replies.add(said.text.replace(medium.caption, "{}"))
        assert replies <= set(HERE)
        assert len(requests) > 5
    for modality in GENERATED:
        for index in range(12):
            found = dialogue(f"{modality}->text", "heldout", index)
            (part,) = found.messages[-1].parts
            assert part.text == sentence(plain_caption(found.attributes["expected"][0][1]))


def test_shares_are_by_data_set_and_by_reply(conversation):
    data = _module(conversation, weights={"a": 3.0}, reply_weights={"text": 0.0, "audio": 2.0})
    loader = data.train_dataloader()
    items, groups = data.items("train"), data.rows("train").groups
    drawn = []
    for epoch in range(20):
        loader.batch_sampler.set_epoch(epoch)
        drawn += [groups[i] for batch in loader.batch_sampler for i in batch if items[i]]
    counts = {group: drawn.count(group) for group in set(groups)}
    assert counts[("a", "text")] == counts[("b", "text")] == 0
    ratio = counts[("a", "image")] / counts[("b", "audio")]
    assert 1.2 < ratio < 1.9


def test_without_shares_each_dialogue_is_seen_once(conversation):
    loader = _module(conversation).train_dataloader()
    assert sorted(i for batch in loader.batch_sampler for i in batch) == list(range(80))


def test_mistakes_are_named(conversation):
    with pytest.raises(UserError, match=r"data\.weights: no 'pocked'.*did you mean 'pocket'"):
        Dialogues([PocketDialogues()], weights={"pocked": 1.0})
    with pytest.raises(UserError, match=r"data\.reply_weights\.text=-1"):
        Dialogues([PocketDialogues()], reply_weights={"text": -1})
    with pytest.raises(UserError, match="no route 'text->imag'; did you mean 'text->image'"):
        PocketDialogues(routes=["text->imag"])
    with pytest.raises(UserError, match="all data sets have share 0"):
        _module(conversation, weights={"a": 0.0, "b": 0.0})
    data = _module(conversation, reply_weights=dict.fromkeys(["text", "image", "video", "audio"], 0.0))
    with pytest.raises(UserError, match="leave no dialogue a share"):
        data.train_dataloader()
    pairs = CaptionedPairs([PocketDialogues(2, 2)]).with_renderer(conversation)
    with pytest.raises(UserError, match="gives dialogues"):
        pairs.train_dataloader()


def test_pairs_may_stand_among_dialogues(conversation):
    sources = [PocketWorld(4, 2, ["image"]), PocketDialogues(4, 2, ["text->text"])]
    data = Dialogues(sources, batch_size=8).with_renderer(conversation)
    batch = next(iter(data.train_dataloader()))
    # a dialogue may have an exchange with an image of its own in front
    rows = set(batch.spans[Modality.IMAGE].rows.tolist())
    pairs = [i for i, key in enumerate(batch.keys) if "/image/" in key]
    assert len(pairs) == 4
    assert rows.issuperset(pairs)
