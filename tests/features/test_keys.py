import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from nextgpt_pl.errors import UserError
from nextgpt_pl.features import keys
from nextgpt_pl.modality import Modality
from nextgpt_pl.readers.stored import Cell, FilePart
from nextgpt_pl.samples import Media

LARGE = 5_000_000


@pytest.fixture
def large(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(np.random.default_rng(0).bytes(LARGE))
    return path


def _key(path):
    return keys.media_key(Media(Modality.VIDEO, path))


def _name(path):
    return keys.media_name(Media(Modality.VIDEO, path))


def _change(path, place, keep_time=False):
    status = path.stat()
    with path.open("r+b") as file:
        file.seek(place)
        old = file.read(1)
        file.seek(place)
        file.write(bytes([old[0] ^ 1]))
    time = status.st_mtime_ns if keep_time else status.st_mtime_ns + 1
    os.utime(path, ns=(status.st_atime_ns, time))


def test_the_key_of_a_copy_is_the_same_and_its_name_in_memory_is_not(large, tmp_path):
    (tmp_path / "b").mkdir()
    copy = tmp_path / "b" / "other.mp4"
    shutil.copy(large, copy)
    os.utime(copy, ns=(1, 1))
    assert _key(copy) == _key(large)
    assert _name(copy) != _name(large)
    assert keys.media_key(Media(Modality.AUDIO, large)) != _key(large)


@pytest.mark.parametrize("place", [0, 60_000, LARGE // 2, LARGE - 1])
def test_a_change_within_the_hashed_blocks_gives_another_key(large, place):
    before = _key(large), _name(large)
    # of 16 blocks none lies in the very middle: the eighth ends before it
    _change(large, place if place != LARGE // 2 else (LARGE - 2**16) * 8 // 15 + 5)
    assert before[0] != _key(large)
    assert before[1] != _name(large)


def test_large_media_are_not_read_whole_and_small_ones_are(large, tmp_path):
    before = _key(large), keys.file_sha256(large)
    _change(large, 200_000)  # between the first block and the second
    assert _key(large) == before[0]
    assert keys.file_sha256(large) != before[1]  # weights are hashed whole
    with large.open("ab") as file:
        file.write(b"x")
    assert _key(large) != before[0]
    small = tmp_path / "a.png"
    small.write_bytes(bytes(2**20))
    for place in range(0, 2**20, 99_991):
        before = _key(small)
        _change(small, place)
        assert _key(small) != before


def test_a_file_that_replaces_another_of_the_same_size_and_time_has_another_name(large, tmp_path):
    before, key = _name(large), _key(large)
    other = tmp_path / "new"
    shutil.copy2(large, other)
    _change(other, 10, keep_time=True)
    other.replace(large)
    assert large.stat().st_mtime_ns == Path(large).stat().st_mtime_ns
    assert _name(large) != before
    assert _key(large) != key


@pytest.mark.parametrize("make", [lambda p: FilePart(p, 10, 1000, "a"), lambda p: Cell(p, 0, 0, ("image",), "a")])
def test_a_medium_inside_a_file_that_changes_has_another_name(large, make):
    stored = make(large)
    before = _name(stored)
    assert _name(make(large)) == before
    _change(large, 20)
    assert _name(stored) != before
    large.unlink()
    _name(stored)  # the reader reports what is missing


@pytest.mark.parametrize("name", ["none.mp4", "a\0b.mp4", "n" * 300 + ".mp4"])
def test_a_missing_file_has_no_key(tmp_path, name):
    with pytest.raises(UserError, match=r"no such file|not the name of a file"):
        _key(tmp_path / name)
    _name(tmp_path / name)
