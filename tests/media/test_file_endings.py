import numpy as np
import pytest
from PIL import Image
from sound_files import write_sound
from video_files import numbered_frames, write_video

from nextgpt_pl.media.reading import array_of
from nextgpt_pl.modality import GENERATED, MODALITIES, Modality, has_media_ending, modality_of_file
from nextgpt_pl.samples import Media

_CODECS = {".webm": "libvpx", ".gif": "gif", ".mpg": "mpeg2video", ".mpeg": "mpeg2video", ".wmv": "wmv2", ".flv": "flv"}
_SOUND_CODECS = {
    ".flac": "flac",
    ".mp3": "libmp3lame",
    ".ogg": "libopus",
    ".opus": "libopus",
    ".m4a": "aac",
    ".aac": "aac",
    ".wma": "wmav2",
    ".aif": "pcm_s16be",
    ".aiff": "pcm_s16be",
}


def _write(path, modality):
    if modality is Modality.IMAGE and path.suffix in (".heic", ".heif"):
        library = pytest.importorskip("pillow_heif")
        library.from_pillow(Image.new("RGB", (64, 48), "red")).save(path)
    elif modality is Modality.IMAGE:
        Image.new("RGB", (64, 48), "red").save(path)
    elif modality is Modality.VIDEO:
        pixels = "rgb8" if path.suffix == ".gif" else "yuv420p"
        write_video(path, numbered_frames(8), _CODECS.get(path.suffix, "libx264"), fps=25, pixels=pixels)
    else:
        wave = (np.sin(np.arange(16_000) / 8) * 16_000).astype(np.int16)
        container = {".aif": "aiff", ".opus": "ogg"}.get(path.suffix)
        write_sound(path, wave[:, None], codec=_SOUND_CODECS.get(path.suffix, "pcm_s16le"), container=container)


@pytest.mark.parametrize("suffix", [suffix for modality in GENERATED for suffix in MODALITIES[modality].suffixes])
def test_files_of_every_ending_are_read_as_its_modality(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    modality = modality_of_file(str(path).upper())
    _write(path, modality)
    array, rate = array_of(Media(modality, path))
    if modality is Modality.AUDIO:
        assert rate in (16_000, 48_000)
        assert abs(len(array) / rate - 1) < 0.2
        assert 0.3 < array.std() < 0.4
    else:
        assert array.shape == {Modality.IMAGE: (48, 64, 3), Modality.VIDEO: (8, 48, 64, 3)}[modality]


def test_metadata_of_macos_is_no_medium():
    for name in ("a/._b.jpg", "__MACOSX/a/b.jpg", "x/__MACOSX/b.mp4"):
        assert not has_media_ending(name)
        with pytest.raises(ValueError, match=r"metadata that macOS adds"):
            modality_of_file(name)
    assert has_media_ending("a/b._.jpg")
    assert not has_media_ending("a/b.txt")
