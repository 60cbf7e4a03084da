import gc
import struct

import av
import numpy as np
import pytest
from video_files import all_frames, numbered_frames, write_video

from nextgpt_pl.errors import UserError
from nextgpt_pl.media import reading, video
from nextgpt_pl.media.frames import _runs
from nextgpt_pl.media.timeline import Packet, Timeline, chosen_frames, spread
from nextgpt_pl.modality import Modality
from nextgpt_pl.samples import Media, StoredMedia


def equal(ours, theirs):
    return len(ours) == len(theirs) and all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize(
    ("name", "codec", "more"),
    [
        ("a.mp4", "libx264", {}),
        ("a.mkv", "libx264", {"options": {"x264-params": "open-gop=1"}}),
        ("a.ts", "libx264", {}),
        ("a.flv", "libx264", {}),
        ("a.avi", "libx264", {}),  # without times, and its frames are reordered
        ("a.avi", "mpeg4", {}),
        ("a.mpg", "mpeg2video", {"fps": 25}),  # seeks land behind the keyframe
        ("a.wmv", "wmv2", {}),
        ("a.webm", "libvpx-vp9", {"options": {"deadline": "realtime", "cpu-used": "8"}}),
        ("a.webm", "libvpx", {"options": {"auto-alt-ref": "1", "lag-in-frames": "8", "deadline": "realtime"}}),
        ("a.gif", "gif", {"pixels": "rgb8"}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_chosen_frames_equal_those_of_the_whole_video(tmp_path, name, codec, more):
    path = write_video(tmp_path / name, numbered_frames(45), codec, **more)
    whole = all_frames(path)
    assert len(whole) == 45
    for count in (1, 2, 7, 60):
        chosen, fps = video.load_video(path, count)
        assert equal(chosen, [whole[i] for i in spread(45, count)])
        assert fps == more.get("fps", 10)
    assert equal(video.load_video(path)[0], whole)


def test_decoding_starts_at_the_last_keyframe_before_a_frame():
    # in decoding order: a keyframe every five packets, the second packet of each five is shown last
    times = [0, 4, 1, 2, 3, 5, 9, 6, 7, 8, 10, 14, 11, 12, 13]
    timeline = Timeline([Packet(time, time, index % 5 == 0) for index, time in enumerate(times)], 0.1)
    assert timeline.order == [0, 2, 3, 4, 1, 5, 7, 8, 9, 6, 10, 12, 13, 14, 11]
    assert _runs(timeline, [timeline.order[n] for n in (0, 12)]) == [(0, 0), (10, 13)]
    assert _runs(timeline, [timeline.order[n] for n in (3, 5)]) == [(0, 5)]
    assert _runs(timeline, [timeline.order[n] for n in (4, 9, 14)]) == [(0, 1), (5, 6), (10, 11)]
    # a frame that is shown before the keyframe which it follows needs the keyframe before
    leading = Timeline([Packet(0, 0, True), Packet(1, 1, False), Packet(3, 3, True), Packet(2, 2, False)], 0.1)
    assert leading.keyframe(3) == 0


def test_frames_are_transformed_one_by_one_and_not_kept(tmp_path):
    path = write_video(tmp_path / "a.mp4", numbered_frames(40))
    shapes = []

    def corner(frame):
        shapes.append(frame.shape)
        return frame[:2, :2]

    gc.collect()
    gc.disable()
    try:
        frames, _ = video.load_video(path, 8, corner)
        left = sum(isinstance(item, av.VideoFrame) for item in gc.get_objects())
    finally:
        gc.enable()
    assert frames.shape == (8, 2, 2, 3)
    assert shapes == [(48, 64, 3)] * 8
    assert left <= 2
    video.load_video(path, 3, corner)
    assert len(shapes) == 8 + 3


def test_a_short_video_repeats_its_frames_or_has_fewer(tmp_path):
    path = write_video(tmp_path / "a.mp4", numbered_frames(3))
    whole = all_frames(path)
    assert equal(video.load_video(path, 5)[0], [whole[i] for i in (0, 0, 1, 2, 2)])
    assert equal(video.load_video(path, 5, repeat=False)[0], whole)
    rendered = Media(Modality.VIDEO, lambda: np.stack(whole))
    assert equal(reading.frames_of(rendered, 5), [whole[i] for i in (0, 0, 1, 2, 2)])
    assert equal(reading.frames_of(rendered, 5, repeat=False), whole)


def test_frames_of_a_variable_rate_are_chosen_by_time(tmp_path):
    times = [*range(0, 1000, 50), *range(1000, 11_000, 1000)]  # 20 frames in the first second, ten in ten more
    path = write_video(tmp_path / "a.mkv", numbered_frames(len(times)), milliseconds=times)
    whole = all_frames(path)
    expected = [min(range(30), key=lambda i: abs(times[i] - point)) for point in np.linspace(0, 10_000, 6)]
    assert expected == [0, 21, 23, 25, 27, 29]
    assert equal(video.load_video(path, 6)[0], [whole[i] for i in expected])
    every, _ = video.load_video(path)
    assert len(every) == 30
    assert equal(every[[0, 29]], [whole[0], whole[29]])
    assert equal(every[14:16], [whole[24], whole[24]])  # at 4.83 and 5.17 seconds


def test_times_that_are_rounded_are_of_a_constant_rate():
    seconds = (np.arange(300) / 29.97).round(3)
    assert chosen_frames(seconds, 16).tolist() == np.linspace(0, 299, 16).round().astype(int).tolist()
    assert chosen_frames(seconds, None).tolist() == list(range(300))
    assert chosen_frames(np.array([3.0]), 4).tolist() == [0, 0, 0, 0]


def _turned(path, matrix):
    """Write a matrix (a, b, c, d) to the track header of an MP4."""
    data = bytearray(path.read_bytes())
    place = data.index(b"tkhd") + 44
    a, b, c, d = (value * 65536 for value in matrix)
    data[place : place + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("matrix", "shown"),
    [
        ((0, 1, -1, 0), lambda f: np.rot90(f, -1)),  # a phone held upright
        ((0, -1, 1, 0), np.rot90),
        ((-1, 0, 0, -1), lambda f: np.rot90(f, 2)),
        ((-1, 0, 0, 1), np.fliplr),
        ((1, 0, 0, -1), np.flipud),
        ((0, 1, 1, 0), lambda f: f.transpose(1, 0, 2)),
    ],
)
def test_videos_are_turned_by_their_display_matrix(tmp_path, matrix, shown):
    path = write_video(tmp_path / "a.mp4", numbered_frames(6))
    stored = all_frames(path)
    _turned(path, matrix)
    assert equal(video.load_video(path)[0], [shown(frame) for frame in stored])


def test_frames_of_another_size_than_the_first_are_resized_to_it(tmp_path):
    frames = numbered_frames(5, 64, 96)
    parts = [
        write_video(tmp_path / f"{n}.ts", f, "mpeg2video", fps=25) for n, f in enumerate((frames, frames[:, :48, :64]))
    ]
    path = tmp_path / "both.ts"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    stored = all_frames(path)
    assert {frame.shape for frame in stored} == {(64, 96, 3), (48, 64, 3)}
    read, _ = video.load_video(path)
    assert read.shape == (len(stored), 64, 96, 3)
    assert equal(read, [video.resized(frame, 64, 96) for frame in stored])


def test_all_frames_of_a_large_video_are_scaled_down_with_a_warning(tmp_path, monkeypatch):
    path = write_video(tmp_path / "a.mp4", numbered_frames(20))
    monkeypatch.setattr(video, "MAX_BYTES", 20 * 24 * 32 * 3)
    with pytest.warns(UserWarning, match=r"a\.mp4: its 20 frames of 64 x 48 .* scaled to 32 x 24"):
        frames, _ = video.load_video(path)
    assert equal(frames, [video.resized(frame, 24, 32) for frame in all_frames(path)])
    assert video.load_video(path, 5)[0].shape == (5, 48, 64, 3)


def test_long_videos_are_refused_before_they_are_decoded(tmp_path, monkeypatch):
    path = write_video(tmp_path / "a.mp4", numbered_frames(30))
    monkeypatch.setattr(video, "decode_at", None)
    with pytest.raises(UserError, match=r"a\.mp4: longer than 2 seconds"):
        video.load_video(path, max_seconds=2)


def test_a_video_is_checked_without_being_kept(tmp_path, monkeypatch):
    path = write_video(tmp_path / "a.mp4", numbered_frames(20))
    monkeypatch.setattr(video, "MAX_BYTES", 1)  # one byte of frames in memory would warn
    reading.check_readable(Media(Modality.VIDEO, path))
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(UserError, match=r"a\.mp4: not a readable video"):
        reading.check_readable(Media(Modality.VIDEO, path))


def test_chosen_frames_of_a_video_inside_another_file_are_decoded_alone(tmp_path):
    path = write_video(tmp_path / "a.mp4", numbered_frames(30))

    class Member(StoredMedia):
        def read(self):
            return path.read_bytes()

        def __str__(self):
            return "shard.tar: a.mp4"

    shapes = []

    def seen(frame):
        shapes.append(frame.shape)
        return frame

    whole = all_frames(path)
    medium = Media(Modality.VIDEO, Member())
    assert equal(reading.frames_of(medium, 4, seen), [whole[i] for i in spread(30, 4)])
    assert len(shapes) == 4
    clip = Media(Modality.VIDEO, Member(), start=1.0, end=1.3)
    assert equal(reading.array_of(clip)[0], whole[10:13])
    path.write_bytes(b"no video" * 9)
    with pytest.raises(UserError, match=r"^shard\.tar: a\.mp4: not a readable video"):
        reading.frames_of(medium, 4)
