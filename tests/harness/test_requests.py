import json

import numpy as np
import pytest
from PIL import Image

from nextgpt_pl.errors import UserError
from nextgpt_pl.harness.answers import cut, text_and_files, text_with_placeholders
from nextgpt_pl.harness.requests import conversation, modalities_of, options_of
from nextgpt_pl.readers.chat import dialogue_of
from nextgpt_pl.samples import MediaPart, ReplyPart, TextPart


def test_messages_of_all_kinds_become_a_dialogue(tmp_path):
    image = Image.new("RGB", (8, 8), "red")
    image.save(tmp_path / "a.png")
    sound = {"array": np.zeros((2, 400)), "sampling_rate": 16_000}
    (tmp_path / "a.mp4").write_bytes(b"read later")
    clip = {"type": "video", "url": str(tmp_path / "a.mp4"), "start_time": 1.0, "end_time": 2.5}
    messages = [
        {"role": "system", "content": [{"type": "text", "text": "Be brief."}]},
        {
            "role": "user",
            "content": [{"type": "image", "url": image}, {"type": "image", "url": f"file://{tmp_path}/a.png"}],
        },
        {"role": "assistant", "content": [{"type": "text", "text": "Two red squares."}]},
        {"role": "user", "content": [{"type": "audio", "url": sound}, clip, {"type": "text", "text": "And these?"}]},
    ]
    dialogue = dialogue_of(conversation(messages))
    assert [m.role for m in dialogue.messages] == ["system", "user", "assistant", "user"]
    last = dialogue.messages[-1].parts
    assert [p.modality.value if isinstance(p, MediaPart) else p.text for p in last] == ["audio", "video", "And these?"]
    assert last[0].media.sample_rate == 16_000
    assert (last[1].media.start, last[1].media.end) == (1.0, 2.5)
    assert isinstance(dialogue.messages[0].parts[0], TextPart)


@pytest.mark.parametrize(
    ("part", "why"),
    [({"type": "smell", "url": "x"}, "type='smell'"), ({"type": "image", "url": None}, "no medium in its 'url'")],
)
def test_a_part_that_is_none_is_named(part, why):
    with pytest.raises(UserError, match=f"message 0, part 0: {why}"):
        conversation([{"role": "user", "content": [part]}])


def test_options_of_a_task():
    plain = options_of({"until": ["\n\n"], "do_sample": False, "max_new_tokens": 16, "top_p": None}, None)
    assert plain.decoding == {"modalities": None, "max_new_tokens": 16}
    assert plain.until == ("\n\n",)
    assert not plain.ignored
    sampled = options_of(
        {"temperature": 0.7, "top_p": 0.9, "num_beams": 3, "seed": 1, "modalities": "image"}, ["audio"]
    )
    assert sampled.decoding == {"modalities": ["image"], "temperature": 0.7, "top_p": 0.9}
    assert set(sampled.ignored) == {"num_beams=3", "seed=1"}
    # a temperature without do_sample=False is sampled with; do_sample=False prevails
    assert "temperature" not in options_of({"temperature": 0.7, "do_sample": False}, None).decoding
    assert options_of({"do_sample": True}, None).decoding["temperature"] == 1.0
    with pytest.raises(UserError, match="until=3"):
        options_of({"until": 3}, None)


def test_modalities_of_replies():
    assert modalities_of(None) is None
    assert modalities_of("image + audio") == ["image", "audio"]
    assert modalities_of("text") == []
    assert modalities_of(["video"]) == ["video"]
    with pytest.raises(UserError, match="'depth' is not one of image, video, audio"):
        modalities_of("image+depth")


def test_replies_as_text_and_as_files(tmp_path):
    picture = np.full((8, 8, 3), 7, np.uint8)
    sound = np.zeros(160, np.float32)
    reply = [
        ReplyPart("text", text="Here."),
        ReplyPart("image", array=picture),
        ReplyPart("audio", array=sound, rate=16_000),
        ReplyPart("text", text="END no"),
    ]
    assert text_with_placeholders(reply, ()) == "Here. <image> <audio> END no"
    assert text_with_placeholders(reply, ("END",)) == "Here. <image> <audio> "
    answer = json.loads(text_and_files(reply, ("END",), tmp_path / "draw_3"))
    assert answer["text"] == "Here. "
    assert answer["images"] == [str(tmp_path / "draw_3_0.png")]
    assert answer["audios"] == [str(tmp_path / "draw_3_1.wav")]
    assert (np.asarray(Image.open(answer["images"][0])) == picture).all()
    assert json.loads(text_and_files(reply[:1], (), tmp_path / "draw_4")) == {"text": "Here.", "images": []}
    assert cut("nothing to cut", ("\n",)) == "nothing to cut"
