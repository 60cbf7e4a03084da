import base64
import io

import numpy as np
import pytest
import soundfile
from PIL import Image

from nextgpt_pl.errors import UserError
from nextgpt_pl.media.reading import array_of
from nextgpt_pl.readers.chat import MediaAccess, dialogue_of


def _ask(text, *media):
    return [{"role": "user", "content": [*media, {"type": "text", "text": text}]}]


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ([{"role": "robot", "content": "x"}], "message 0: a turn from 'robot': .*known speakers are human, user"),
        ([{"role": "assistant", "content": "x"}], "must end with one of the user"),
        (
            _ask("x", {"type": "imag", "imag": 1}),
            "part 0: a part of type 'imag' is not read; did you mean 'image'",
        ),
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
        ("image", {"image": {"a": 1}}, r"image: key 'a' would not be read; known: data, detail, format, url$"),
        ("image", {"image": "data:image/png;base64,AAAA"}, "not a readable image"),
        ("image", {"base64": "no base64"}, "image within the row: not base64"),
        (
            "image",
            {"image": "http://127.0.0.1/a.png"},
            "http and https URLs are not fetched here; give image",
        ),
        ("image", {"url": "ftp://127.0.0.1/a.png"}, "no such file: ftp://127.0.0.1/a.png"),
        ("image", {"image": PICTURE, "url": "a.png"}, "one of image, url is expected"),
        ("image", {"image": PICTURE, "colour": "red"}, r"key 'colour' would not be read; known: [^;]*$"),
        ("image", {"image": PICTURE, "start": 1}, "start and end are seconds of a video or sound"),
        ("audio", {"audio": WAVE, "rate": -1}, RATE),
        ("audio", {"audio": WAVE, "rate": 0}, RATE),
        ("audio", {"audio": WAVE, "rate": "16k"}, RATE),
        ("audio", {"audio": WAVE, "rate": float("nan")}, RATE),
        ("audio", {"audio": ("16k", WAVE)}, RATE),
        ("audio", {"audio": (16000, np.zeros(160, np.int16))}, r"floating-point \(n,\), got int16"),
        ("image", {"image": (16000, PICTURE)}, "tuple cannot be read as image"),
        ("audio", {"audio": np.full(160, np.nan, np.float32)}, "160 of 160 values of this audio are not finite"),
        ("text", {"text": 7}, "text=7: a text is expected"),
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


def _media(part, access=None):
    """The medium of a conversation of one part."""
    ((found,),) = (m.parts for m in dialogue_of([{"role": "user", "content": [part]}], access).messages)
    return found.media


@pytest.fixture
def files(tmp_path):
    """A picture and a sound."""
    (tmp_path / "in").mkdir()
    Image.fromarray(np.full((6, 8, 3), 77, np.uint8)).save(tmp_path / "in" / "a.png")
    soundfile.write(tmp_path / "in" / "a.wav", np.sin(np.arange(160)), 16_000)
    return tmp_path


def _encoded(file):
    return base64.b64encode(file.read_bytes()).decode()


def test_media_as_transformers_and_openai_write_them(files, monkeypatch):
    monkeypatch.chdir(files)
    image, sound = _encoded(files / "in" / "a.png"), _encoded(files / "in" / "a.wav")
    url = f"data:image/png;base64,{image}"
    forms = [
        *({"type": "image", key: "in/a.png"} for key in ("image", "url", "path")),
        *({"type": "image", key: url} for key in ("image", "url")),
        {"type": "image", "path": files / "in" / "a.png"},
        {"type": "image", "url": f"file://{files}/in/a.png"},
        {"type": "image", "base64": image},
        {"type": "image", "image": {"bytes": (files / "in" / "a.png").read_bytes(), "path": None}},
        {"type": "image_url", "image_url": {"url": url, "detail": "low"}},
        {"type": "image_url", "image_url": url},
        {"type": "input_image", "image_url": url},
    ]
    for form in forms:
        array, _ = array_of(_media(form))
        assert (array.shape, int(array.min())) == ((6, 8, 3), 77), form
    for form in (
        {"type": "input_audio", "input_audio": {"data": sound, "format": "wav"}},
        {"type": "audio_url", "audio_url": {"url": f"data:audio/wav;base64,{sound}"}},
        {"type": "audio", "audio": "in/a.wav"},
    ):
        array, rate = array_of(_media(form))
        assert (len(array), rate) == (160, 16000), form
    asked = [{"role": "developer", "content": "Be brief.", "name": "x"}, {"role": "user", "content": ["<image> What?"]}]
    dialogue = dialogue_of(asked)
    assert [m.role for m in dialogue.messages] == ["system", "user"]
    assert dialogue.messages[1].parts[0].text == "<image> What?"  # in a chat a placeholder is plain text


def test_files_are_read_from_where_the_caller_says(files):
    Image.fromarray(PICTURE).save(files / "secret.png")
    (files / "in" / "link.png").symlink_to(files / "secret.png")
    access = MediaAccess(folders=(files / "in",))
    for name in ("a.png", str(files / "in" / "a.png"), f"file://{files}/in/a.png"):
        assert _media({"type": "image", "image": name}, access).source == files / "in" / "a.png"
    for name in ("../secret.png", str(files / "secret.png"), "link.png", "none.png", f"file://{files}/secret.png"):
        with pytest.raises(UserError, match="message 0, part 0: no such file in the folders that may be read: "):
            _media({"type": "image", "image": name}, access)
    for part in ({"image": "a.png"}, {"path": str(files / "in" / "a.png")}, {"url": f"file://{files}/in/a.png"}):
        with pytest.raises(UserError, match="files are not read here; give image as a data: URL"):
            _media({"type": "image", **part}, MediaAccess(folders=()))
    assert array_of(_media({"type": "image", "image": PICTURE}, MediaAccess(folders=())))[0].shape == PICTURE.shape


@pytest.mark.parametrize("key", ["url", "base64"])
def test_large_texts_are_refused_before_they_are_decoded(key):
    value = "A" * 4000
    value = f"data:image/png;base64,{value}" if key == "url" else value
    with pytest.raises(UserError, match=r"image within the row: 3,000 bytes, at most 2,999 are read"):
        _media({"type": "image", key: value}, MediaAccess(max_bytes=2999))


@pytest.mark.parametrize("access", [MediaAccess(), MediaAccess(folders=())])
def test_urls_are_not_fetched(access):
    for url in ("http://127.0.0.1/a.png", "https://example.org/a.png"):
        for part in ({"type": "image", "url": url}, {"type": "image_url", "image_url": {"url": url}}):
            with pytest.raises(UserError, match=r"message 0, part 0: .*not fetched here; give image as a data: URL"):
                _media(part, access)


def test_other_keys_of_messages_are_refused_unless_they_are_empty():
    asked = {"role": "user", "content": "Hi.", "tool_calls": None, "annotations": []}
    assert len(dialogue_of([asked]).messages) == 1
    with pytest.raises(UserError, match="message 0: a message's key 'tool_calls' would not be read"):
        dialogue_of([{**asked, "tool_calls": [1]}])
