from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nextgpt_pl.datamodules.checked_media import CheckedMedia
from nextgpt_pl.errors import UserError
from nextgpt_pl.features.keys import media_key, media_name
from nextgpt_pl.media.reading import array_of, check_readable, frames_of
from nextgpt_pl.media.video import load_video
from nextgpt_pl.media.writing import save
from nextgpt_pl.modality import Modality
from nextgpt_pl.readers.stored import FilePart
from nextgpt_pl.samples import Media

FPS, RATE = 8.0, 16_000


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> Media:
    """Two seconds, 16 frames, each brighter than the last."""
    path = tmp_path_factory.mktemp("clips") / "v.mp4"
    levels = np.arange(16, dtype=np.uint8) * 15
    save(np.broadcast_to(levels[:, None, None, None], (16, 32, 32, 3)).copy(), Modality.VIDEO, path, FPS)
    return Media(Modality.VIDEO, path)


def _levels(media):
    return array_of(media)[0].mean((1, 2, 3))


@pytest.mark.parametrize(
    ("start", "end", "frames"),
    [
        (0.5, 1.5, slice(4, 12)),
        (None, 0.25, slice(0, 2)),
        (1.5, None, slice(12, 16)),
        (1.5, 99.0, slice(12, 16)),  # published ends may lie a little behind the file's
        (0.3, 0.31, slice(3, 4)),  # shorter than a frame
    ],
)
def test_a_clip_of_a_video_has_the_frames_in_its_seconds(video, start, end, frames):
    clip = replace(video, start=start, end=end)
    np.testing.assert_array_equal(_levels(clip), _levels(video)[frames])
    assert array_of(clip)[1] == FPS


def test_a_clip_of_a_sound(tmp_path):
    samples = np.linspace(-0.5, 0.5, RATE, dtype=np.float32)
    save(samples, Modality.AUDIO, tmp_path / "a.wav", RATE)
    whole = Media(Modality.AUDIO, tmp_path / "a.wav")
    np.testing.assert_array_equal(array_of(replace(whole, start=0.3, end=0.5))[0], array_of(whole)[0][4800:8000])


def test_a_clip_that_begins_behind_the_end_of_its_file_is_refused(video, tmp_path):
    late = replace(video, start=2.5, end=3.0)
    with pytest.raises(UserError, match=r"v\.mp4: a clip begins at 2.5 s, but the file has 2 s"):
        array_of(late)
    checked = CheckedMedia(tmp_path / "checked.sqlite")
    results = [checked.open(late), checked.open(video)]
    checked.add(results)
    # the fault of a clip is not the fault of its file
    assert [bool(checked.open(medium).fault) for medium in (late, video)] == [True, False]
    assert not any(checked.open(medium).anew for medium in (late, video))
    with pytest.raises(UserError, match="a part in seconds is expected of a video or sound, not of image"):
        array_of(Media(Modality.IMAGE, _picture(tmp_path), start=1.0))


def _picture(folder) -> Path:
    save(np.zeros((4, 4, 3), np.uint8), Modality.IMAGE, folder / "i.png", None)
    return folder / "i.png"


def test_clips_of_a_file_have_features_of_their_own(video):
    clips = [video, replace(video, start=0.5), replace(video, start=0.5, end=1.0), replace(video, end=1.0)]
    assert len({media_key(clip) for clip in clips}) == len({media_name(clip) for clip in clips}) == 4
    assert media_key(clips[1]) == media_key(replace(video, start=0.5))


def test_frames_of_a_clip_are_spread_over_it(video):
    clip = replace(video, start=0.5, end=1.5)
    np.testing.assert_array_equal(frames_of(clip, 3).mean((1, 2, 3)), _levels(video)[[4, 8, 11]])
    assert len(frames_of(replace(video, end=0.25), 5, repeat=False)) == 2
    check_readable(clip)


def test_the_duration_of_a_clip_counts_and_not_that_of_its_file(video):
    assert len(load_video(video.source, max_seconds=0.5, start=1.0, end=1.5)[0]) == 4
    with pytest.raises(UserError, match=r"longer than 0\.5 seconds"):
        load_video(video.source, max_seconds=0.5, start=1.0)


def test_a_clip_of_a_video_inside_another_file(video):
    inside = Media(Modality.VIDEO, FilePart(video.source, 0, video.source.stat().st_size, "v"), start=0.5, end=1.5)
    np.testing.assert_array_equal(_levels(inside), _levels(video)[4:12])
