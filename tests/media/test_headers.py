from io import BytesIO

import numpy as np
import pytest
import soundfile
from PIL import Image
from sound_files import write_sound
from video_files import numbered_frames, write_video

from nextgpt_pl.errors import UserError
from nextgpt_pl.media.headers import Header, read_header
from nextgpt_pl.modality import Modality
from nextgpt_pl.readers.stored import FilePart
from nextgpt_pl.samples import Media

IMAGE, VIDEO, AUDIO = Modality.IMAGE, Modality.VIDEO, Modality.AUDIO


def test_an_image(tmp_path):
    file = tmp_path / "a.jpg"
    Image.new("RGB", (30, 20)).save(file)
    assert read_header(Media(IMAGE, file)) == Header(file.stat().st_size, 30, 20)


@pytest.mark.parametrize(
    ("name", "codec"), [("a.mp4", "libx264"), ("a.mkv", "ffv1"), ("a.avi", "mpeg4"), ("a.gif", "gif")]
)
def test_a_video(tmp_path, name, codec):
    pixels = {"ffv1": "bgr0", "gif": "rgb8"}.get(codec, "yuv420p")
    file = write_video(tmp_path / name, numbered_frames(25), codec, fps=10, pixels=pixels)
    header = read_header(Media(VIDEO, file))
    assert (header.size, header.width, header.height) == (file.stat().st_size, 64, 48)
    assert (header.seconds, header.rate) == (pytest.approx(2.5, abs=0.11), pytest.approx(10))


@pytest.mark.parametrize(("name", "codec"), [("a.wav", None), ("a.flac", None), ("a.m4a", "aac")])
def test_a_sound(tmp_path, name, codec):
    file, samples = tmp_path / name, np.zeros((24_000, 1), np.int16)
    if codec:
        write_sound(file, samples, codec=codec)
    else:
        soundfile.write(file, samples, 16_000)
    header = read_header(Media(AUDIO, file))
    assert (header.width, header.rate) == (None, 16_000)
    assert header.seconds == pytest.approx(1.5, abs=0.13)


def test_a_clip_has_the_duration_of_the_clip(tmp_path):
    file = tmp_path / "a.wav"
    soundfile.write(file, np.zeros(24_000), 16_000)
    assert read_header(Media(AUDIO, file, start=0.5)).seconds == 1.0
    assert read_header(Media(AUDIO, file, start=0.5, end=0.75)).seconds == 0.25
    assert read_header(Media(AUDIO, file, end=9.0)).seconds == 1.5
    with pytest.raises(UserError, match=r"a\.wav: a clip begins at 2 s, but the file has 1\.5 s"):
        read_header(Media(AUDIO, file, start=2.0))


def test_a_medium_inside_another_file(tmp_path):
    buffer = BytesIO()
    Image.new("L", (7, 5)).save(buffer, "PNG")
    (tmp_path / "a.tar").write_bytes(b"x" * 100 + buffer.getvalue())
    part = FilePart(tmp_path / "a.tar", 100, len(buffer.getvalue()), "in.png")
    assert read_header(Media(IMAGE, part)) == Header(len(buffer.getvalue()), 7, 5)
    with pytest.raises(UserError, match=r"a\.tar: in\.png: not a readable image"):
        read_header(Media(IMAGE, FilePart(tmp_path / "a.tar", 0, 99, "in.png")))


def test_media_without_a_file_are_made():
    assert read_header(Media(AUDIO, lambda: np.zeros(800, np.float32), 1600)) == Header(seconds=0.5, rate=1600)
    video = Media(VIDEO, lambda: np.zeros((8, 3, 4, 3), np.uint8), fps=4)
    assert read_header(video) == Header(None, 4, 3, 2.0, 4)
    assert read_header(Media(IMAGE, lambda: np.zeros((3, 4, 3), np.uint8))) == Header(None, 4, 3)


def test_an_array(tmp_path):
    np.save(tmp_path / "d.npy", np.zeros((4, 6), np.float32))
    header = read_header(Media(Modality.DEPTH, tmp_path / "d.npy"))
    assert (header.width, header.height) == (6, 4)
    np.save(tmp_path / "d.npy", np.zeros(4, np.float32))
    with pytest.raises(UserError, match=r"d\.npy: an array of two dimensions"):
        read_header(Media(Modality.DEPTH, tmp_path / "d.npy"))


@pytest.mark.parametrize("modality", [*Modality])
def test_files_that_cannot_be_read_are_named(tmp_path, modality):
    (tmp_path / "bad").write_bytes(b"nothing of the kind")
    for name, reason in (("bad", "not a readable"), ("none", "no such file")):
        with pytest.raises(UserError, match=f"{name}: {reason}"):
            read_header(Media(modality, tmp_path / name))


def test_what_training_refuses_is_refused(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros(6011), 10)
    with pytest.raises(UserError, match=r"a\.wav: 601 seconds, at most 600 are read"):
        read_header(Media(AUDIO, tmp_path / "a.wav"))
    Image.new("1", (8001, 8000)).save(tmp_path / "a.png")
    with pytest.raises(UserError, match=r"a\.png: 8001 x 8000 pixels, at most 64,000,000 are read"):
        read_header(Media(IMAGE, tmp_path / "a.png"))
    (tmp_path / "c.wav").write_bytes((tmp_path / "a.wav").read_bytes()[:20])
    with pytest.raises(UserError, match=r"c\.wav"):
        read_header(Media(AUDIO, tmp_path / "c.wav"))
