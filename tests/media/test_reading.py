from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from PIL import Image

from nextgpt_pl.errors import UserError
from nextgpt_pl.media import reading as media
from nextgpt_pl.media import writing as media_files
from nextgpt_pl.modality import Modality
from nextgpt_pl.samples import Media


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


def test_damaged_files_are_refused_or_read_whatever_their_decoder_makes_of_them(tmp_path, clip):
    Image.new("RGB", (20, 30), "red").save(tmp_path / "a.png")
    media_files.save_audio(np.sin(np.arange(2000) / 9).astype(np.float32), tmp_path / "a.wav", 16_000)
    np.save(tmp_path / "a.npy", np.ones((4, 4), np.float32))
    whole = {Modality.IMAGE: "a.png", Modality.AUDIO: "a.wav", Modality.DEPTH: "a.npy", Modality.VIDEO: clip.name}
    generator, refused = np.random.default_rng(0), 0
    for modality, name in whole.items():
        data = (tmp_path / name).read_bytes()
        for number in range(15 if modality is Modality.VIDEO else 60):
            damaged = np.frombuffer(data, np.uint8).copy()
            at = generator.integers(0, min(len(data), 200) if number % 2 else len(data), 8)
            damaged[at] = generator.integers(0, 256, 8)
            file = tmp_path / f"damaged{Path(name).suffix}"
            file.write_bytes(damaged[: generator.integers(1, len(data)) if number % 3 == 0 else None].tobytes())
            try:
                array, _ = media.array_of(Media(modality, file))
                assert np.isfinite(array).all()
            except UserError as error:
                refused += 1
                assert str(error).startswith(f"{file}: ")  # noqa: PT017
    assert refused > 100


def test_sizes_are_bounded_before_decoding(tmp_path, clip):
    Image.new("RGB", (100, 100)).save(tmp_path / "big.png")
    with pytest.raises(UserError, match="100 x 100 pixels, at most 5,000"):
        media.load_image(tmp_path / "big.png", max_pixels=5000)
    with pytest.raises(UserError, match="128 x 128 pixels, at most 100"):
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
        (np.zeros((4, 6)), Modality.IMAGE, r"image arrays are uint8 \(H, W, 3\), got float64 \(4, 6\)"),
        (np.zeros((4, 6, 3), np.uint8), Modality.VIDEO, r"uint8 \(T, H, W, 3\)"),
        (np.zeros((2, 9), np.float32), Modality.AUDIO, r"floating-point \(n,\)"),
        (b"no picture", Modality.IMAGE, "not a readable image"),
    ],
)
def test_what_is_no_medium_is_said(source, modality, message):
    with pytest.raises(UserError, match=message):
        media.as_array(source, modality, "here")


def _audio_with(path, value):
    """A sound file with one sample of ``value``; soundfile writes what it knows, PyAV the rest."""
    samples = np.zeros((2, 1600), np.float32)
    samples[1, 700] = value
    if path.suffix == ".wav":
        soundfile.write(path, samples.T, 16_000, subtype="FLOAT")
        return path
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_f32le", rate=16_000, layout="stereo")
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(samples.T).reshape(1, -1), format="flt", layout="stereo"
        )
        frame.sample_rate = 16_000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize("name", ["a.wav", "a.mkv"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_sounds_with_a_sample_that_is_not_finite_are_refused_by_name(tmp_path, name, value):
    assert np.isfinite(media.load_audio(_audio_with(tmp_path / name, 0.5))[0]).all()
    path = _audio_with(tmp_path / name, value)
    with pytest.raises(
        UserError, match=rf"{name}: 1 of 1600 values of this audio are not finite, the first at \[700\]"
    ):
        media.load_audio(path)
    with pytest.raises(UserError, match="not finite"):
        media.as_array(path.read_bytes(), Modality.AUDIO)


def test_pictures_with_a_value_that_is_not_finite_are_refused(tmp_path):
    pixels = np.zeros((4, 6), np.float32)
    pixels[1, 2] = np.nan
    Image.fromarray(pixels).save(tmp_path / "a.tif")
    with pytest.raises(UserError, match=r"a\.tif: 1 of 24 values of this image are not finite, the first at \[1, 2\]"):
        media.load_image(tmp_path / "a.tif")
    with pytest.raises(UserError, match=r"here: .* not finite"):
        media.as_array(Image.fromarray(pixels), Modality.IMAGE, "here")


@pytest.mark.parametrize("modality", [Modality.AUDIO, Modality.DEPTH])
def test_arrays_that_are_not_finite_are_refused_wherever_they_are_from(modality):
    array = np.zeros(9 if modality is Modality.AUDIO else (3, 3), np.float64)
    array.flat[4] = 1e300  # beyond float32
    with pytest.warns(RuntimeWarning), pytest.raises(UserError, match="here: 1 of 9 values"):
        media.as_array(array, modality, "here")

    def rendered():
        return np.full(4, np.inf, np.float32)

    with pytest.raises(UserError, match=r"made by .*rendered: 4 of 4 values"):
        media.array_of(Media(modality, rendered, sample_rate=16_000))


def test_media_with_a_rate_are_not_written_without_one(tmp_path):
    with pytest.raises(ValueError, match="needs a rate"):
        media_files.save(np.zeros(9, np.float32), Modality.AUDIO, tmp_path / "a.wav")


def test_an_array_that_promises_more_than_its_file_holds_is_refused(tmp_path):
    for shape in ((10**6, 10**6), (10**9, 10**9)):
        with (tmp_path / "a.npy").open("wb") as file:
            np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
        with pytest.raises(UserError, match=r"a\.npy: not a readable \.npy file"):
            media.load_array(tmp_path / "a.npy", Modality.DEPTH)
    with (tmp_path / "a.npy").open("ab") as file:
        file.truncate(file.tell() + 10**11)  # sparse
    with (tmp_path / "a.npy").open("r+b") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": (10**5, 10**5)}
        np.lib.format.write_array_header_1_0(file, header)
    with pytest.raises(UserError, match=r"a\.npy: an array of \(100000, 100000\), at most 64,000,000 values"):
        media.load_array(tmp_path / "a.npy", Modality.DEPTH)


@pytest.mark.parametrize("load", [media.load_image, media.load_video, media.load_audio])
@pytest.mark.parametrize(("name", "reason"), [("a\0b.png", "null byte"), ("n" * 300 + ".png", "too long")])
def test_names_that_no_file_can_have_are_refused(tmp_path, load, name, reason):
    with pytest.raises(UserError, match=f"not the name of a file that can be read .*{reason}"):
        load(tmp_path / name)
    with pytest.raises(UserError, match="no such file; it is a folder"):
        load(tmp_path)
