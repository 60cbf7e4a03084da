import numpy as np
import pytest

from nextgpt_pl.media.reading import array_of
from nextgpt_pl.media.writing import save_exactly, save_samples_exactly
from nextgpt_pl.modality import Modality
from nextgpt_pl.samples import Media


@pytest.mark.parametrize(
    ("save", "modality", "array", "rate"),
    [
        (save_samples_exactly, Modality.AUDIO, np.sin(np.arange(5001) / 7).astype(np.float32) / 3, 16_000),
        (save_exactly, Modality.VIDEO, np.arange(7 * 6 * 10 * 3).reshape(7, 6, 10, 3).astype(np.uint8), 4.0),
        (save_exactly, Modality.IMAGE, np.arange(6 * 10 * 3).reshape(6, 10, 3).astype(np.uint8), None),
    ],
)
def test_media_written_exactly_come_back_and_equal_media_are_equal_files(tmp_path, save, modality, array, rate):
    first, second = (save(array, modality, tmp_path / name, rate) for name in "ab")
    assert first.read_bytes() == second.read_bytes()
    read, read_rate = array_of(Media(modality, first))
    assert np.array_equal(read, array)
    assert read_rate == rate
