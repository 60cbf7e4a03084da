"""Whatever a media file holds: a finite array of the right form, or an error that names the file; never much memory."""

import io
import resource
import struct

import numpy as np
import pytest
import soundfile
from exploring import exploration, outcome
from hypothesis import strategies as st
from mutations import DAMAGES, damaged
from PIL import Image
from sound_files import write_sound
from video_files import numbered_frames, write_video

from nextgpt_pl.media.headers import read_header
from nextgpt_pl.media.reading import array_of, check_readable, frames_of
from nextgpt_pl.modality import MODALITIES, Modality
from nextgpt_pl.samples import Media

_MEMORY = 3 * 2**30  # bytes that reading may add to the process
_SOUND = np.sin(np.arange(4000) / 9).astype(np.float32)
_CODECS = {"mp4": "libx264", "mkv": "libx264", "webm": "libvpx", "avi": "mpeg4", "gif": "gif"}
_ENDINGS = {
    Modality.IMAGE: ("png", "jpg", "webp", "tif", "bmp", "ppm", "ico", "tga"),
    Modality.AUDIO: ("wav", "flac", "ogg", "mp3", "aiff", "au", "m4a"),
    Modality.VIDEO: tuple(_CODECS),
    Modality.DEPTH: ("npy",),
    Modality.IMU: ("npy",),
}


def _write(path, modality):
    ending = path.suffix[1:]
    if modality is Modality.IMAGE:
        Image.fromarray(numbered_frames(3, 24, 32)[2]).save(path)
    elif ending == "m4a":
        write_sound(path, (_SOUND * 9999).astype(np.int16).reshape(-1, 1), codec="aac", container="mp4")
    elif modality is Modality.AUDIO:
        soundfile.write(path, _SOUND, 16_000)
    elif modality is Modality.VIDEO:
        write_video(path, numbered_frames(6, 24, 32), _CODECS[ending], pixels="rgb8" if ending == "gif" else "yuv420p")
    else:
        np.save(path, np.ones((6, 40) if modality is Modality.IMU else (12, 16), np.float32))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The bytes of a file of each modality and ending."""
    folder = tmp_path_factory.mktemp("whole")
    files = {(m, e): folder / f"{m}.{e}" for m, endings in _ENDINGS.items() for e in endings}
    for (modality, _), path in files.items():
        _write(path, modality)
    return {key: path.read_bytes() for key, path in files.items()}


def _npy(shape, dtype="<f4"):
    sink = io.BytesIO()
    np.lib.format.write_array_header_1_0(sink, {"descr": dtype, "fortran_order": False, "shape": shape})
    return sink.getvalue() + bytes(64)


def _set(data, at, layout, *values):
    """The bytes with numbers at a place."""
    return data[:at] + struct.pack(layout, *values) + data[at + struct.calcsize(layout) :]


_NUMBERS = st.one_of(st.sampled_from([0, 1, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1]), st.integers(0, 2**32 - 1))


@st.composite
def _headers(draw, whole):
    """Files whose headers promise impossible sizes."""
    kind = draw(st.sampled_from(["wav", "png", "npy", "bmp", "tif", "mp4"]))
    if kind == "npy":
        shape = tuple(draw(st.lists(st.sampled_from([0, 1, 6, 40, 10**6, 2**40, 2**63]), max_size=4)))
        dtype = draw(st.sampled_from(["<f4", "<f8", "|O", "<U9", "|V0", "<c8", "|S3", "<M8[s]"]))
        return draw(st.sampled_from([Modality.DEPTH, Modality.IMU])), "npy", _npy(shape, dtype)
    modality = {"wav": Modality.AUDIO, "mp4": Modality.VIDEO}.get(kind, Modality.IMAGE)
    data = whole[modality, kind]
    starts = {"wav": [4, 16, 22, 24, 28, 32, 40], "png": [16, 20, 24], "bmp": [2, 10, 18, 22, 28]}.get(kind, range(99))
    return modality, kind, _set(data, draw(st.sampled_from(starts)), ">I" if kind == "png" else "<I", draw(_NUMBERS))


def _read(folder, modality, ending, content):
    path = folder / f"medium.{ending}"
    path.write_bytes(content)
    medium, names = Media(modality, path), ("medium.",)

    def read():
        array, rate = array_of(medium)
        assert array.size
        assert np.isfinite(array).all()
        assert array.dtype == (np.uint8 if modality in (Modality.IMAGE, Modality.VIDEO) else np.float32)
        assert rate is None or 0 < rate < 1e9

    said = outcome(read, names=names)
    outcome(read_header, medium, names=names)
    assert outcome(check_readable, medium, names=names) == said
    if modality is Modality.VIDEO:
        assert outcome(frames_of, medium, 2, names=names) == said
    return said


def _bounded(explore, check, **strategies):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    explore(check, **strategies)
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < _MEMORY


@exploration(few=10, many=400)
@pytest.mark.filterwarnings("ignore")
def test_a_damaged_file_is_read_alike_by_all_or_named(explore, whole, tmp_path):
    def read(key, damages):
        return _read(tmp_path, *key, damaged(whole[key], damages))

    _bounded(explore, read, key=st.sampled_from(sorted(whole)), damages=DAMAGES)


@exploration(few=6, many=250)
@pytest.mark.filterwarnings("ignore")
def test_a_header_that_promises_too_much_takes_no_memory(explore, whole, tmp_path):
    _bounded(explore, lambda file: _read(tmp_path, *file), file=_headers(whole))


@exploration(few=4, many=100)
@pytest.mark.filterwarnings("ignore")
def test_a_file_of_another_kind_is_read_or_named(explore, whole, tmp_path):
    def read(key, modality):
        return _read(tmp_path, modality, key[1], whole[key])

    explore(read, key=st.sampled_from(sorted(whole)), modality=st.sampled_from(sorted(MODALITIES)))
