import numpy as np
import pytest
from PIL import Image

from nextgpt_pl.demo.uploads import Limits, content_of
from nextgpt_pl.errors import UserError
from nextgpt_pl.media.writing import save_audio, save_video


@pytest.fixture
def picture(tmp_path):
    Image.new("RGB", (32, 32), "red").save(tmp_path / "cat.png")
    return str(tmp_path / "cat.png")


def test_media_come_before_the_text(picture, tmp_path):
    save_audio(np.zeros(1600, np.float32), tmp_path / "a.wav", 16000)
    save_video(np.zeros((4, 32, 32, 3), np.uint8), tmp_path / "v.mp4", 8)
    files = [picture, str(tmp_path / "a.wav"), str(tmp_path / "v.mp4")]
    assert content_of(" Hello ", files, Limits()) == [
        {"type": "image", "image": picture},
        {"type": "audio", "audio": files[1]},
        {"type": "video", "video": files[2]},
        {"type": "text", "text": "Hello"},
    ]


def test_what_exceeds_a_limit_is_named_without_the_servers_folder(picture, tmp_path):
    save_audio(np.zeros(48000, np.float32), tmp_path / "long.wav", 16000)
    (tmp_path / "big.png").write_bytes(b"0" * (2**20 + 1))
    (tmp_path / "broken.png").write_bytes(b"no picture")
    (tmp_path / "a.txt").write_text("x")
    limits = Limits(megabytes=1, seconds=2, files=1, characters=10)
    for files, text, message in [
        (["long.wav"], "", r"^long\.wav: 3\.0 seconds, at most 2 are read"),
        (["big.png"], "", r"^big\.png: 1\.0 MB, at most 1 MB are read"),
        (["broken.png"], "", r"^broken\.png: "),
        (["a.txt"], "", r"^'a\.txt': the file ending is of no known medium"),
        (["cat.png", "cat.png"], "", "2 files in one message, at most 1"),
        ([], "x" * 11, "the text has 11 characters, at most 10"),
        ([], "  ", "the message is empty"),
    ]:
        with pytest.raises(UserError, match=message) as caught:
            content_of(text, [str(tmp_path / name) for name in files], limits)
        assert str(tmp_path) not in str(caught.value)
    with pytest.raises(UserError, match=r"seconds=nan: at least 1"):
        Limits(seconds=float("nan"))
