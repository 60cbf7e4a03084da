import io

import numpy as np
import pytest
from PIL import Image

from nextgpt_pl.dialogue.messages import dialogue_of
from nextgpt_pl.errors import UserError


def _ask(text, *media):
    return [{"role": "user", "content": [*media, {"type": "text", "text": text}]}]


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ([{"role": "robot", "content": "x"}], "message 0: role='robot'"),
        ([{"role": "assistant", "content": "x"}], "must end with one of the user"),
        (_ask("x", {"type": "imag", "imag": 1}), "part 0: type='imag'.*did you mean 'image'"),
        (_ask("x", {"type": "image", "image": "no.png"}), "no such file: no.png"),
        (_ask("x", {"type": "image", "image": "a\0.png"}), r"no such file: a\\x00.png"),
        (_ask("x", {"type": "image", "image": "n" * 400 + ".png"}), "no such file: nnn"),
        (_ask("x", {"type": "image"}), "no 'image' in it"),
    ],
)
def test_mistakes_in_messages_are_named(messages, message):
    with pytest.raises(UserError, match=message):
        dialogue_of(messages)


CUT = io.BytesIO()
Image.effect_noise((64, 64), 50).save(CUT, "PNG")
WAVE, PICTURE = np.zeros(160, np.float32), np.zeros((64, 64, 3), np.uint8)
RATE = "rate=.*a number above 0, in hertz or frames per second"


@pytest.mark.parametrize(
    ("kind", "part", "message"),
    [
        (
            "image",
            {"image": np.zeros((0, 0, 3), np.uint8)},
            r"image arrays are uint8 \(H, W, 3\), got uint8 \(0, 0, 3\)",
        ),
        ("video", {"video": np.zeros((0, 8, 8, 3), np.uint8)}, r"video arrays are uint8 \(T, H, W, 3\)"),
        ("audio", {"audio": np.zeros(0, np.float32)}, r"floating-point \(n,\)"),
        (
            "image",
            {"image": Image.open(io.BytesIO(CUT.getvalue()[:900]))},
            "PngImageFile cannot be read as image.*truncated",
        ),
        ("image", {"image": CUT.getvalue()[:900]}, "message 0, part 0: not a readable image"),
        ("image", {"image": [[1, 2], [3]]}, "list cannot be read as image"),
        ("image", {"image": {"a": 1}}, "image arrays are uint8"),
        ("audio", {"audio": WAVE, "rate": -1}, RATE),
        ("audio", {"audio": WAVE, "rate": 0}, RATE),
        ("audio", {"audio": WAVE, "rate": "16k"}, RATE),
        ("audio", {"audio": WAVE, "rate": float("nan")}, RATE),
        ("audio", {"audio": ("16k", WAVE)}, RATE),
        ("audio", {"audio": (16000, np.zeros(160, np.int16))}, r"floating-point \(n,\), got int16"),
        ("image", {"image": (16000, PICTURE)}, "tuple cannot be read as image"),
        ("audio", {"audio": np.full(160, np.nan, np.float32)}, "160 of 160 values of this audio are not finite"),
        ("text", {"text": 7}, "its text is a string, not 7"),
    ],
)
def test_media_of_no_use_are_named(kind, part, message):
    with pytest.raises(UserError, match=message) as error:
        dialogue_of([{"role": "user", "content": [{"type": kind, **part}]}])
    assert str(error.value).startswith("message 0, part 0: ")
    assert "\n" not in str(error.value)


def test_a_rate_and_an_array_are_a_sound_as_other_libraries_give_it():
    for part in ({"audio": (16000, WAVE)}, {"audio": WAVE, "rate": 16000}):
        ((found,),) = (
            m.parts for m in dialogue_of([{"role": "user", "content": [{"type": "audio", **part}]}]).messages
        )
        assert found.media.sample_rate == 16000
        assert np.array_equal(found.media.source(), WAVE)
