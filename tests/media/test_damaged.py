"""Damaged media: whether a file can be read depends neither on who reads it nor on which of its frames are wanted."""

import warnings

import numpy as np
import pytest
import soundfile
from PIL import Image
from video_files import numbered_frames, write_video

from nextgpt_pl.errors import UserError
from nextgpt_pl.media import sound, video
from nextgpt_pl.media.images import load_image
from nextgpt_pl.media.reading import check_readable
from nextgpt_pl.modality import Modality
from nextgpt_pl.samples import Media


def _without_packets(path, numbers):
    """A video of 30 frames, all of which are keyframes; the data of some are overwritten."""
    write_video(path, numbered_frames(30), "mpeg4", keyframes=1)
    data = bytearray(path.read_bytes())
    starts = [place + 8 for place in range(data.index(b"movi"), len(data)) if data.startswith(b"00dc", place)]
    for start in (starts[number] for number in numbers):
        size = int.from_bytes(data[start - 4 : start], "little")
        data[start : start + size] = bytes(size)
    path.write_bytes(data)
    return path


def test_damaged_packets_of_a_video_are_passed_over_whichever_frames_are_wanted(tmp_path):
    holed = _without_packets(tmp_path / "a.avi", (14, 15))
    with pytest.warns(UserWarning, match=r"a\.avi: 2 packets cannot be decoded \(.*\): the others are used"):
        whole, _ = video.load_video(holed)
    assert len(whole) == 28
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.array_equal(video.load_video(holed, 2)[0], whole[[0, -1]])  # they are found by seeking
    with pytest.warns(UserWarning, match="2 packets cannot be decoded"):
        check_readable(Media(Modality.VIDEO, holed))


def test_a_video_without_a_whole_packet_is_refused_whichever_frames_are_wanted(tmp_path):
    path = _without_packets(tmp_path / "a.avi", range(30))
    for count in (None, 1, 4):
        with pytest.raises(UserError, match=r"a\.avi: not a readable video"):
            video.load_video(path, count)


def test_a_damaged_mp3_gives_the_same_samples_at_each_reading(tmp_path):
    path = tmp_path / "a.mp3"
    soundfile.write(path, np.sin(np.arange(16_000) / 9), 16_000)
    whole, rate = sound.load_audio(path)
    assert (len(whole), rate) == (16_000, 16_000)
    data = bytearray(path.read_bytes())
    data[len(data) // 3 : len(data) // 2] = bytes(len(data) // 2 - len(data) // 3)
    path.write_bytes(data)
    first = sound.load_audio(path)[0]
    assert all(np.array_equal(sound.load_audio(path)[0], first) for _ in range(5))


def test_samples_beyond_all_formats_are_refused(tmp_path):
    samples = np.zeros(800, np.float32)
    for peak, fault in ((2.0**31, None), (-1e20, r"a\.wav: a sample is 1e\+20 in magnitude, at most 2.147")):
        samples[5] = peak
        soundfile.write(tmp_path / "a.wav", samples, 16_000, subtype="FLOAT")
        if fault is None:
            assert sound.load_audio(tmp_path / "a.wav")[0][5] == peak
        else:
            with pytest.raises(UserError, match=fault):
                sound.load_audio(tmp_path / "a.wav")


def test_narrow_images_and_frames_are_refused_before_they_are_decoded(tmp_path):
    """Resized to 224 on the short side, this image would need 600 GB."""
    Image.new("L", (1_000_000, 1)).save(tmp_path / "a.png")
    with pytest.raises(UserError, match=r"a\.png: 1000000 x 1 pixels, sides of a ratio up to 200"):
        load_image(tmp_path / "a.png")
    Image.new("L", (200, 1)).save(tmp_path / "a.png")
    assert load_image(tmp_path / "a.png").shape == (1, 200, 3)
    path = write_video(tmp_path / "a.mkv", np.zeros((3, 16, 4000, 3), np.uint8), "ffv1", pixels="bgr0")
    with pytest.raises(UserError, match=r"a\.mkv: 4000 x 16 pixels, sides of a ratio"):
        video.load_video(path)
