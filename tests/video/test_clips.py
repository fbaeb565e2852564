"""Instants of clips, and the windowed reader, against slow loops."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from vitascope.structures import Gap, VideoError
from vitascope.video.clips import dense_times, pair_times, random_times, read_windows, sliding_times, uniform_times
from vitascope.video.reader import VideoReader
from vitascope.video.writer import VideoWriter


class FakeReader:
    """Frame `i` is filled with `i`; the frames in `broken` cannot be decoded."""

    def __init__(self, pts, broken=()):
        self.index = SimpleNamespace(times_seconds=np.asarray(pts, float))
        self.duration_seconds = float(pts[-1] + 0.04)
        self.path, self.gaps, self.broken, self.decoded = "fake.mp4", (), set(broken), []

    def iterate(self, start_seconds=0.0, end_seconds=None, size=None):
        for i, seconds in enumerate(self.index.times_seconds):
            if not start_seconds <= seconds < end_seconds:
                continue
            self.decoded.append(i)
            if i in self.broken:
                self.gaps += (Gap(seconds, seconds + 0.04),)
            else:
                yield float(seconds), torch.full((3, 2, 2), i % 256, dtype=torch.uint8)


def slow_times(start, num_frames, stride, first, last, end):
    """The policy as a story: walk on; at the end stay, or go back to the first instant and walk on."""
    times, now = [], start
    for _ in range(num_frames):
        if now > last + 1e-9:
            now = first if end == "wrap" else last
        times.append(min(now, last))
        now = now + stride
    return times


def test_clip_within_the_video_is_a_regular_grid():
    times = dense_times(1.0, 5, 0.1, last_seconds=9.0)
    assert times.dtype == np.float64 and np.allclose(times, [1.0, 1.1, 1.2, 1.3, 1.4], atol=1e-12)


def test_clip_past_the_end_repeats_the_last_frame():
    assert dense_times(8.5, 4, 0.4, last_seconds=9.0).tolist() == [8.5, 8.9, 9.0, 9.0]


def test_clip_past_the_end_wraps_to_the_start_as_often_as_needed():
    assert dense_times(1.0, 9, 1.0, last_seconds=2.5, end="wrap").tolist() == [1, 2, 0, 1, 2, 0, 1, 2, 0]
    assert dense_times(5.0, 3, 9.0, last_seconds=6.0, first_seconds=4.0, end="wrap").tolist() == [5, 4, 4]


def test_clip_past_the_end_is_an_error_if_so_asked():
    with pytest.raises(ValueError, match=r"from 8.500 to 9.700 s passes the last frame at 9.000 s; shorten it"):
        dense_times(8.5, 4, 0.4, last_seconds=9.0, end="error")
    assert dense_times(8.7, 4, 0.1, last_seconds=9.0, end="error")[-1] == 9.0  # 8.7 + 3 * 0.1 > 9 in floating point


@pytest.mark.parametrize("end", ["repeat_last", "wrap"])
def test_policies_equal_a_slow_walk(end):
    rng = np.random.default_rng(0)
    for _ in range(200):
        first = rng.uniform(0, 3)
        last = first + rng.choice([0, rng.uniform(0, 5)])
        start, stride, count = rng.uniform(first, last), rng.uniform(0.05, 3), int(rng.integers(1, 20))
        times = dense_times(start, count, stride, last, first_seconds=first, end=end)
        assert np.allclose(times, slow_times(start, count, stride, first, last, end), atol=1e-9)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"num_frames": 0}, r"num_frames \(0\) must be > 0"),
        ({"stride_seconds": 0.0}, r"stride_seconds \(0.0\) must be > 0"),
        ({"last_seconds": -1.0}, r"must be >= 0 and <= last_seconds \(-1.0\)"),
        ({"last_seconds": float("nan")}, "must be >= 0 and <= last_seconds"),
        ({"start_seconds": 9.5}, r"start_seconds \(9.5\) must be between"),
        ({"start_seconds": float("nan")}, "must be between"),
        ({"end": "loop"}, r"end \('loop'\) must be one of"),
    ],
)
def test_wrong_arguments_are_named(change, text):
    arguments = {"start_seconds": 0.0, "num_frames": 4, "stride_seconds": 0.1, "last_seconds": 9.0} | change
    with pytest.raises(ValueError, match=text):
        dense_times(**arguments)


def test_uniform_clips_touch_both_ends_and_one_is_in_the_middle():
    times = uniform_times(4, 3, 0.5, last_seconds=10.0)
    assert times.shape == (4, 3) and times[0, 0] == 0 and times[-1, -1] == 10
    assert np.allclose(np.diff(times[:, 0]), 3.0)
    assert uniform_times(1, 3, 0.5, last_seconds=10.0).tolist() == [[4.5, 5.0, 5.5]]
    assert uniform_times(3, 1, 0.5, last_seconds=10.0).ravel().tolist() == [0, 5, 10]


def test_video_shorter_than_a_clip_starts_at_its_first_frame():
    assert (uniform_times(3, 8, 1.0, last_seconds=2.0)[:, 0] == 0).all()
    assert (random_times(np.random.default_rng(0), 3, 8, 1.0, last_seconds=2.0) == [0, 1, 2, 2, 2, 2, 2, 2]).all()
    with pytest.raises(ValueError, match="passes the last frame"):
        random_times(np.random.default_rng(0), 3, 8, 1.0, last_seconds=2.0, end="error")


def test_random_clips_cover_the_stretch_uniformly_and_follow_their_seed():
    def draw(seed):
        return random_times(np.random.default_rng(seed), 4000, 4, 0.5, 12.0, first_seconds=2.0, end="error")

    times = draw(1)
    assert times.min() >= 2 and times.max() <= 12
    counts, _ = np.histogram(times[:, 0], bins=10, range=(2, 10.5))
    assert counts.min() > 320 and counts.max() < 480
    assert np.array_equal(times, draw(1)) and not np.array_equal(times, draw(2))


def test_sliding_windows_reach_the_last_frame_and_only_the_last_passes_it():
    rng = np.random.default_rng(0)
    for _ in range(200):
        count, stride, hop, last = int(rng.integers(1, 6)), rng.uniform(0.1, 1), rng.uniform(0.1, 3), rng.uniform(0, 9)
        times = sliding_times(count, stride, hop, last)
        assert np.allclose(times[:, 0], np.arange(len(times)) * hop)
        ends = times[:, 0] + (count - 1) * stride
        assert (ends[:-1] < last).all() and times.max() <= last
        assert ends[-1] >= last - 1e-9 or times[-1, 0] + hop > last
        if ends[0] <= last:
            whole = sliding_times(count, stride, hop, last, end="error")
            assert len(whole) == int(np.sum(np.arange(len(times) + 1) * hop + (count - 1) * stride <= last + 1e-9))
    with pytest.raises(ValueError, match="passes the last frame"):
        sliding_times(8, 1.0, 1.0, last_seconds=3.0, end="error")


def test_pairs_stay_within_their_distance_and_both_fit():
    rng = np.random.default_rng(0)
    pairs = np.array([pair_times(rng, 4, 0.5, 1.0, 20.0, end="error") for _ in range(3000)])  # [n, 2, T]
    distance = np.abs(pairs[:, 0, 0] - pairs[:, 1, 0])
    assert distance.max() <= 1 and 0.45 < distance.mean() < 0.55
    assert pairs.min() >= 0 and pairs.max() <= 20
    one, two = pair_times(rng, 4, 0.5, 0.0, 20.0)
    assert np.array_equal(one, two)
    far = np.array([pair_times(rng, 1, 0.5, float("inf"), 20.0) for _ in range(3000)])[:, :, 0]
    assert abs(np.corrcoef(far.T)[0, 1]) < 0.06
    with pytest.raises(ValueError, match="max_distance_seconds"):
        pair_times(rng, 4, 0.5, -1.0, 20.0)


def irregular(count=200, seed=0):
    return np.r_[0, np.cumsum(np.random.default_rng(seed).uniform(0.01, 0.09, count - 1))]


def test_windows_equal_the_frames_shown_and_come_in_order():
    pts = irregular()
    reader = FakeReader(pts)
    times = random_times(np.random.default_rng(1), 40, 8, 0.11, pts[-1], end="error")
    got = list(read_windows(reader, times))
    assert sorted(s for s, _ in got) == list(range(40))
    assert all(np.diff([clip.times_seconds[-1] for _, clip in got]) >= 0)
    for s, clip in got:
        expected = [max(i for i, p in enumerate(pts) if p <= t + 1e-9) for t in times[s]]
        assert clip.frames.shape == (8, 3, 2, 2) and clip.frames[:, 0, 0, 0].tolist() == expected
        assert np.array_equal(clip.times_seconds, pts[expected])


def test_overlapping_windows_decode_each_frame_once_and_pauses_are_not_decoded():
    pts = np.arange(3000) * 0.04
    reader = FakeReader(pts)
    times = np.stack([dense_times(s, 16, 0.04, pts[-1]) for s in (50.0, 10.0, 10.2, 10.0, 50.1)])
    assert [s for s, _ in read_windows(reader, times)] == [1, 3, 2, 0, 4]
    assert reader.decoded == sorted(set(reader.decoded)) and len(reader.decoded) < 50


def test_windows_are_streamed_and_frames_are_let_go():
    pts = np.arange(500) * 0.04
    reader = FakeReader(pts)
    windows = read_windows(reader, sliding_times(8, 0.04, 0.16, pts[-1]))
    next(windows)
    assert reader.decoded == list(range(8))
    next(windows)
    assert len(windows.gi_frame.f_locals["kept"]) <= 8
    for _ in range(50):
        next(windows)
    assert len(windows.gi_frame.f_locals["kept"]) <= 8


def test_frames_between_the_instants_are_not_asked_for():
    reader = FakeReader(np.arange(500) * 0.04)
    list(read_windows(reader, sliding_times(4, 0.16, 0.64, 8.0)))
    assert reader.decoded == list(range(0, 201, 4))


def test_wrapped_windows_are_read_too():
    pts = np.arange(100) * 0.04
    times = dense_times(3.8, 8, 0.04, pts[-1], end="wrap")[None]
    ((_, clip),) = read_windows(FakeReader(pts), times)
    assert clip.frames[:, 0, 0, 0].tolist() == [95, 96, 97, 98, 99, 0, 1, 2]


@pytest.mark.parametrize("broken", [range(20, 24), range(0, 3), range(90, 100), range(0, 100)])
def test_windows_that_touch_a_gap_do_not_come(broken):
    pts = np.arange(100) * 0.04
    reader = FakeReader(pts, broken)
    times = sliding_times(5, 0.04, 0.12, pts[-1])
    came = {s: clip for s, clip in read_windows(reader, times)}
    shown = np.rint(times / 0.04).astype(int)
    assert set(came) == {s for s, row in enumerate(shown) if not set(row) & set(broken)}
    assert all(clip.frames[:, 0, 0, 0].tolist() == shown[s].tolist() for s, clip in came.items())
    assert reader.gaps


def test_instants_outside_of_the_video_are_refused():
    reader = FakeReader(np.arange(10) * 0.04)
    for times in ([[-0.1, 0.1]], [[0.1, 0.5]]):
        with pytest.raises(VideoError, match="out_of_range"):
            list(read_windows(reader, np.array(times)))
    with pytest.raises(ValueError, match=r"must be finite \[S, T\]"):
        list(read_windows(reader, np.zeros(3)))


def test_windows_of_a_real_file_equal_frames_at_seconds(tmp_path):
    frames = np.random.default_rng(0).integers(0, 255, (120, 3, 6, 8), np.uint8).repeat(8, 2).repeat(8, 3)
    with VideoWriter(tmp_path / "a.mp4", 20, gop=25) as writer:
        writer.write(frames, 0.3 + irregular(120))
    with VideoReader(str(tmp_path / "a.mp4")) as reader:
        times = random_times(np.random.default_rng(1), 12, 6, 0.13, float(reader.index.times_seconds[-1]))
        came = list(read_windows(reader, times, size=(24, 32)))
        assert sorted(s for s, _ in came) == list(range(12))
        for s, clip in came:
            expected = reader.frames_at_seconds(times[s], size=(24, 32))
            assert torch.equal(clip.frames, expected.frames)
            assert np.allclose(clip.times_seconds, expected.times_seconds)
