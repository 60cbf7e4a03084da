import numpy as np
import pytest
from PIL import Image

from nextgpt_pl import media, media_files
from nextgpt_pl.errors import UserError
from nextgpt_pl.modality import Modality


@pytest.fixture
def clip(tmp_path):
    frames = np.stack([np.full((64, 64, 3), 20 * i, np.uint8) for i in range(10)])
    media_files.save_video(frames, tmp_path / "clip.mp4", fps=5)
    return tmp_path / "clip.mp4"


def test_video_frames_come_back(clip):
    frames, fps = media.load_video(clip)
    assert frames.shape == (10, 128, 128, 3)
    assert fps == 5
    assert np.abs(frames.mean(axis=(1, 2, 3)) - 20 * np.arange(10)).max() < 4


def test_chosen_frames_equal_those_of_the_whole(clip):
    whole, _ = media.load_video(clip)
    some, _ = media.load_video(clip, frame_indices=[1, 4, 9])
    assert np.array_equal(some, whole[[1, 4, 9]])
    with pytest.raises(UserError, match="1 frames were read, 2 were wanted"):
        media.load_video(clip, frame_indices=[4, 99])


def test_audio_round_trip(tmp_path):
    wave = np.sin(np.arange(8000) / 10).astype(np.float32) / 2
    media_files.save_audio(wave, tmp_path / "a.wav", 16000)
    read, rate = media.load_audio(tmp_path / "a.wav")
    assert rate == 16000
    assert np.abs(read - wave).max() < 1e-4


def test_transparent_images_are_laid_on_white(tmp_path):
    Image.new("RGBA", (4, 4), (0, 0, 0, 0)).save(tmp_path / "t.png")
    assert (media.load_image(tmp_path / "t.png") == 255).all()


@pytest.mark.parametrize(
    ("load", "name"), [(media.load_image, "x.png"), (media.load_video, "x.mp4"), (media.load_audio, "x.wav")]
)
def test_broken_files_are_named(tmp_path, load, name):
    path = tmp_path / name
    with pytest.raises(UserError, match=f"{name}: no such file"):
        load(path)
    path.write_bytes(b"")
    with pytest.raises(UserError, match=f"{name}: the file is empty"):
        load(path)
    path.write_bytes(b"this is not a medium at all" * 9)
    with pytest.raises(UserError, match=f"{name}: not a readable"):
        load(path)


def test_sizes_are_bounded_before_decoding(tmp_path, clip):
    Image.new("RGB", (100, 100)).save(tmp_path / "big.png")
    with pytest.raises(UserError, match="100 x 100 pixels, at most 5,000"):
        media.load_image(tmp_path / "big.png", max_pixels=5000)
    with pytest.raises(UserError, match="128 x 128, at most 100 pixels"):
        media.load_video(clip, max_pixels=100)
    with pytest.raises(UserError, match="longer than 1 seconds"):
        media.load_video(clip, max_seconds=1)
    media_files.save_audio(np.zeros(32000, np.float32), tmp_path / "a.wav", 16000)
    with pytest.raises(UserError, match="2 seconds, at most 1"):
        media.load_audio(tmp_path / "a.wav", max_seconds=1)


def test_media_given_as_arrays_images_and_bytes(clip, tmp_path):
    picture = np.zeros((4, 6, 3), np.uint8)
    for source in (picture, Image.fromarray(picture)):
        assert np.array_equal(media.as_array(source, Modality.IMAGE)[0], picture)
    frames, fps = media.as_array(clip.read_bytes(), Modality.VIDEO)
    assert (len(frames), fps) == (10, 5)
    media_files.save(np.zeros(800, np.float32), Modality.AUDIO, tmp_path / "a.wav", 8_000)
    samples, rate = media.as_array((tmp_path / "a.wav").read_bytes(), Modality.AUDIO)
    assert (len(samples), rate) == (800, 8_000)


@pytest.mark.parametrize(
    ("source", "modality", "message"),
    [
        (np.zeros((4, 6)), Modality.IMAGE, r"image arrays are uint8 \(H, W, 3\), this is float64 \(4, 6\)"),
        (np.zeros((4, 6, 3), np.uint8), Modality.VIDEO, r"uint8 \(T, H, W, 3\)"),
        (np.zeros((2, 9), np.float32), Modality.AUDIO, r"floating-point samples \(n,\)"),
        (b"no picture", Modality.IMAGE, "not a readable image"),
    ],
)
def test_what_is_no_medium_is_said(source, modality, message):
    with pytest.raises(UserError, match=message):
        media.as_array(source, modality, "here")


def test_media_with_a_rate_are_not_written_without_one(tmp_path):
    with pytest.raises(ValueError, match="written with a rate"):
        media_files.save(np.zeros(9, np.float32), Modality.AUDIO, tmp_path / "a.wav")
